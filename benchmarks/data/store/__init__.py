"""The store of data sets on disk: Minari's files, a sidecar with hash and counts, and copies that open faster.

Data sets and their sidecars are read here, checked. ``writing`` writes them.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import flat, framestore
from backbench.benchmarks.data.store.paths import (
    SIDECAR,
    check_there,
    exists,
    names,
    path_of,
    reading,
    remedy,
    remove,
    root,
    size,
)  # fmt: skip
from backbench.benchmarks.data.store.writing import clear_leftovers, staged, write, write_sidecar
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments import spaces

__all__ = [
    "SIDECAR", "check_there", "clear_leftovers", "counts", "digest", "exists", "load", "names", "path_of", "read",
    "recorded_spaces", "remedy", "remove", "root", "sidecar", "size", "staged", "write", "write_sidecar",
]  # fmt: skip


def read(name: str) -> Trajectories:
    """Read a data set and check its counts, and its hash where one was recorded.

    The first reading of a data set of vectors leaves a copy that the next ones open faster. Raises ``UserError`` if it
    is absent, truncated, changed since it was written, or of observations or actions that no agent here has.
    """
    check_there(name)
    recorded = sidecar(name)
    if "frames" in recorded:
        return framestore.read(name, recorded)
    folder, stamp = path_of(name), ""
    kept = flat.read(folder, name)
    if kept is not None and (not recorded or kept.digest == recorded.get("digest", "")):
        return kept
    with suppress(OSError):  # ``load`` says what is wrong
        stamp = flat.stamp(folder)
    trajectories = load(name)
    flat.write(folder, trajectories, stamp)
    return trajectories


def load(name: str, folder: Path | None = None) -> Trajectories:
    """A data set of vectors from Minari's files, one episode in memory at a time. ``folder`` replaces the store."""
    check_there(name, folder)
    path, recorded = path_of(name, folder), sidecar(name, folder)
    with reading(name, path):
        dataset = _dataset(path)
        steps = int(dataset.total_steps)
    where = f"data set {name!r} in {path}"
    spaces.check_observations(dataset.observation_space, where)
    actions = spaces.Actions.of(dataset.action_space, where)
    with reading(name, path):
        trajectories = Trajectories.from_episodes(_episodes(dataset), name, actions)
        if len(trajectories.rewards) != steps:
            raise DataError(f"data set {name!r} has {len(trajectories.rewards)} steps where its metadata say {steps}")
        if recorded and recorded.get("digest") != trajectories.digest:
            raise DataError(f"data set {name!r} is not what was written: its hash has changed")
    return trajectories


def recorded_spaces(name: str) -> tuple[Any, Any]:
    """The observation space and the action space that a data set of vectors was recorded with."""
    folder = path_of(name)
    with reading(name, folder):
        dataset = _dataset(folder)
        return dataset.observation_space, dataset.action_space


def _dataset(folder: Path) -> Any:
    import minari

    with warnings.catch_warnings(action="ignore"):
        return minari.MinariDataset(folder / "data")


def _episodes(dataset: Any) -> Iterator[Episode]:
    for e in dataset.storage.get_episodes(range(dataset.total_episodes)):
        yield Episode(
            observations=spaces.flatten(dataset.observation_space, e["observations"]),
            actions=np.asarray(e["actions"]),
            rewards=np.asarray(e["rewards"], dtype=np.float64),
            terminated=bool(np.any(e["terminations"])),
        )


def sidecar(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What was recorded when the data set was written. Empty if another program wrote it."""
    path = path_of(name, folder) / SIDECAR
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"data set {name!r}: {path} is not valid JSON; {remedy(name)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("origin", {}), dict):
        raise DataError(f"data set {name!r}: {path} is not a sidecar of Backbench; {remedy(name)}")
    return content


def counts(name: str) -> dict[str, int]:
    """Episodes and steps from Minari's metadata. Empty if they are not there."""
    try:
        content = json.loads((path_of(name) / "data" / "metadata.json").read_text())
        return {"episodes": int(content["total_episodes"]), "steps": int(content["total_steps"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def digest(name: str) -> str | None:
    """The recorded hash of the content, without reading the data. None if no hash was recorded."""
    recorded = sidecar(name).get("digest")
    return str(recorded) if recorded else flat.digest(path_of(name))
