"""Find what is wrong or odd in a data set of the store, with one episode in memory at a time."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbench.benchmarks.data import store
from backbench.benchmarks.data.episode_checks import EpisodeChecks, Finding, Findings
from backbench.benchmarks.data.errors import DataError
from backbench.errors import one_line

ROUNDING = 1e-6  # relative error of a recorded figure
MUJOCO = re.compile(r"(HalfCheetah|Hopper|Walker2d|Ant|Humanoid|Swimmer)-v\d+")
MUJOCO_LIMIT = 1000  # time limit of these, if the data set records none


def inspect(name: str) -> list[Finding]:
    """Everything that is wrong or odd in a data set of the store, errors first. DataError if there is none."""
    store.check_there(name)
    try:
        recorded = store.sidecar(name)
        if "frames" not in recorded:
            return examine(store.path_of(name), recorded)
        found = Findings()
        _compare_figures(recorded, store.read(name).summary(), found)
        return found.lines()
    except DataError as error:
        return [Finding("error", str(error))]


def examine(folder: Path, recorded: Mapping[str, Any] | None) -> list[Finding]:
    """What ``inspect`` finds in any folder of vectors. ``recorded`` is the sidecar, {} if absent, None to skip it."""
    from minari.dataset.minari_storage import MinariStorage

    found = Findings()
    try:
        with warnings.catch_warnings(action="ignore"):
            metadata = MinariStorage.read_raw_metadata(folder / "data")
            storage = MinariStorage.read(folder / "data")
            groups = _groups(folder / "data", metadata["data_format"])
        episodes, steps = int(metadata["total_episodes"]), int(metadata["total_steps"])
        checks = EpisodeChecks(storage, found, _limit(metadata), with_digest=bool(recorded))
    except Exception as error:  # h5py, Gymnasium and Minari raise many kinds for a broken file
        return [Finding("error", f"cannot be read: {one_line(error)}")]
    _compare_ids(groups, episodes, found)
    for number, attributes in sorted(groups.items()):
        checks.episode(number, attributes)
    checks.finish()
    if checks.steps != steps:
        found.error("counts", f"it holds {checks.steps:,} steps where its metadata say {steps:,}")
    if recorded and checks.complete and checks.returns:
        if (digest := checks.digest.hexdigest()) != recorded.get("digest"):
            found.error("hash", f"its hash is {digest}; {store.SIDECAR} says {recorded.get('digest')}")
        _compare_figures(recorded, checks.figures(), found)
    if recorded == {}:
        found.warning("no sidecar", f"its hash was never recorded: no {store.SIDECAR} lies beside it")
    return found.lines()


def _groups(data: Path, kind: str) -> dict[int, dict[str, Any]]:
    """The attributes of each episode, by its number."""
    if kind == "hdf5":
        import h5py

        with h5py.File(data / "main_data.hdf5", "r") as file:
            return {int(key.removeprefix("episode_")): dict(file[key].attrs) for key in file}
    return {int(p.name): {} for p in data.iterdir() if p.name.isdecimal()}


def _limit(metadata: Mapping[str, Any]) -> int | None:
    """The environment's time limit in steps, if it is recorded or known."""
    spec = json.loads(metadata.get("env_spec") or "{}")
    return spec.get("max_episode_steps") or (MUJOCO_LIMIT if MUJOCO.fullmatch(str(spec.get("id"))) else None)


def _compare_ids(groups: Mapping[int, Mapping[str, Any]], total: int, found: Findings) -> None:
    if len(groups) != total:
        found.error("counts", f"it holds {len(groups):,} episodes where its metadata say {total:,}")
    for number in sorted(set(range(total)) - set(groups)):
        found.error("ids", f"episode {number} is missing")
    seen: dict[int, int] = {}
    for number, attributes in sorted(groups.items()):
        said = int(attributes.get("id", number))
        if said in seen:
            found.error("ids", f"episodes {seen[said]} and {number} both have the id {said}")
        elif said != number:
            found.error("ids", f"episode {number} has the id {said}")
        seen.setdefault(said, number)


def _compare_figures(recorded: Mapping[str, Any], figures: Mapping[str, float], found: Findings) -> None:
    size = max((abs(float(value)) for key, value in figures.items() if key.startswith("return_")), default=0.0)
    for key, value in figures.items():
        said = recorded.get(key)
        # A mean near zero is a difference of large numbers, so its error is compared with those.
        if not isinstance(said, int | float) or not math.isclose(said, value, rel_tol=ROUNDING, abs_tol=1e-9 * size):
            found.error("figures", f"{store.SIDECAR} says {key} {said!r}; it is {value!r}")
