"""Source ``d4rl``: the Gym sets of D4RL (Fu et al. 2020, arXiv:2004.07219), version 2, from their published files."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Folder, Progress, Remote, Terms, no_progress, remote, unreachable
from backbench.benchmarks.data.sources import d4rl_hdf5
from backbench.benchmarks.data.trajectories import DataError, Trajectories
from backbench.errors import suggest

PUBLIC = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
VARIABLE = "BACKBENCH_D4RL"  # an address or a folder that stands in for PUBLIC
CACHE = Path(".cache", "d4rl")
ENVIRONMENTS = {  # id, numbers of an observation, numbers of an action
    "halfcheetah": ("HalfCheetah-v4", 17, 6),
    "hopper": ("Hopper-v4", 11, 3),
    "walker2d": ("Walker2d-v4", 17, 6),
    "ant": ("Ant-v4", 111, 8),
}
SETS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
ELSEWHERE = "copy the file from elsewhere and give its folder: bench data pull d4rl {} --from FOLDER"


def names() -> list[str]:
    """The id of every set."""
    return [f"d4rl/{environment}/{kind}-v2" for environment in ENVIRONMENTS for kind in SETS]


def file_name(data_id: str) -> str:
    """What a set's published file is called; raises ``DataError`` for an unknown id."""
    if data_id not in names():
        raise DataError(f"d4rl: no data set '{data_id}'{suggest(data_id, names())}")
    _, environment, kind = data_id.split("/")
    return f"{environment}_{kind.removesuffix('-v2').replace('-', '_')}-v2.hdf5"


def pull(
    data_id: str,
    location: str = "",
    keep: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> Trajectories:
    """Put a set into the store, under its id.

    Args:
        data_id: one of ``names()``.
        location: the folder that holds the file, or the address that it is below; empty for what the environment
            variable ``BACKBENCH_D4RL`` says, or else the public address.
        keep: leave the fetched file in ``.cache/d4rl`` in the store.
        report: gets a line for a file that was fetched, for steps that are left out, and for each thing that is odd.
        progress: gets bytes done and bytes in all, now and then during the download.

    Raises:
        DataError: an unknown id; a file that is missing, cannot be fetched, is broken or of another environment. The
            store has then what it had before, and in its cache what was fetched in part.
    """
    file = file_name(data_id)
    environment, observation, action = ENVIRONMENTS[data_id.split("/")[1]]
    with _files(data_id, location, keep, report, progress) as files:
        with files.open(file) as path:
            origin = {"source": "d4rl", "file": file, "file_bytes": path.stat().st_size, "file_sha256": _sha256(path)}
            episodes = d4rl_hdf5.read(path, observation, action)
        for line in episodes.warnings:
            report(f"warning: {line}")
        if episodes.dropped:
            report(f"{file}: the last {episodes.dropped:,} steps are of an episode that was cut off; they are left out")
        if not files.local:
            origin["address"] = f"{files.where}/{file}"
        if episodes.discontinuities:
            origin["discontinuities"] = episodes.discontinuities
        origin |= {
            "dropped_steps": episodes.dropped,
            "final_observation": "repeated" if episodes.discontinuities is None else "recorded",
            "description": f"D4RL's {Path(file).stem}, as published; whole episodes only",
            "licence": "CC BY 4.0",
            "citation": "Fu, Kumar, Nachum, Tucker, Levine: D4RL: Datasets for Deep Data-Driven Reinforcement Learning "
            "(2020), arXiv:2004.07219",
        }
        made = store.write(data_id, episodes, _spec(environment), origin)
        with files.open(file, once=True):  # only now: it need not be fetched again when the store cannot be written
            pass
    return made


def reach(data_id: str) -> None:
    """Raise ``DataError`` within two seconds if nobody answers where the set would be fetched from."""
    location = os.environ.get(VARIABLE) or PUBLIC
    if _is_address(location, VARIABLE) and (problem := unreachable(location)):
        raise DataError(f"no network ({problem}): {_advice(data_id)}")


def _is_address(location: str, said: str) -> bool:
    """Whether it is no folder; DataError, which names what ``said`` it, for an address that is none of ours."""
    scheme, colon, _ = location.partition("://")
    if not colon:
        return False
    try:
        parts = urlsplit(location)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc) and bool(parts.hostname)
    except ValueError:
        plain = False
    if scheme.lower() not in ("http", "https") or not plain:  # a password in it is not printed
        raise DataError(f"{said}: give a folder, or an http(s) address without name, password, ? and #")
    return True


def _advice(data_id: str) -> str:
    return ELSEWHERE.format(data_id.removeprefix("d4rl/").removesuffix("-v2").replace("/", "-"))


def _files(
    data_id: str, location: str, keep: bool, report: Callable[[str], None], progress: Progress
) -> AbstractContextManager[Folder | Remote]:
    said = "--from" if location else VARIABLE
    location = location or os.environ.get(VARIABLE) or PUBLIC
    if not _is_address(location, said):
        return nullcontext(Folder(Path(location).expanduser()))
    advice = _advice(data_id)
    terms = Terms(
        missing=f"; is the base address right? --from or {VARIABLE} gives another one",
        offline=f"; with no network, {advice}",
        at_once=True,
        strict=True,
        progress=progress,
    )
    cache = store.root() / CACHE / Path(file_name(data_id)).stem
    return remote(location.rstrip("/"), cache, f"; {advice}", keep, report, terms)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _spec(environment: str) -> Any:
    """What Minari is told about the environment. The ant of version 4 has its 111 numbers only when asked to."""
    if environment != "Ant-v4":
        return environment
    import gymnasium

    spec = copy.deepcopy(gymnasium.spec(environment))
    spec.kwargs["use_contact_forces"] = True
    return spec
