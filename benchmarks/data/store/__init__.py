"""The store of data sets on disk: Minari's files, a sidecar with hash and counts, and copies that open faster.

Data sets and their sidecars are read here, checked. ``writing`` writes them.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench import reading as files
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import flat, framestore, metadata
from backbench.benchmarks.data.store.episodes import Episodes, opened
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
        about = metadata.read(path / "data")
    where = f"data set {name!r} in {path}"
    spaces.check_observations(about.observations, where)
    actions = spaces.Actions.of(about.actions, where)
    with reading(name, path), opened(about) as episodes:
        trajectories = Trajectories.from_episodes(_episodes(episodes), name, actions)
        if (steps := len(trajectories.rewards)) != about.steps:
            raise DataError(f"data set {name!r} has {steps} steps where its metadata say {about.steps}")
        if recorded and recorded.get("digest") != trajectories.digest:
            raise DataError(f"data set {name!r} is not what was written: its hash has changed")
        if recorded.get("spaces", about.spaces_digest) != about.spaces_digest:
            raise DataError(f"data set {name!r} is not what was written: its spaces have changed")
    return trajectories


def recorded_spaces(name: str) -> tuple[Any, Any]:
    """The observation space and the action space that a data set of vectors was recorded with."""
    folder = path_of(name)
    with reading(name, folder):
        about = metadata.read(folder / "data")
        return about.observations, about.actions


def _episodes(episodes: Episodes) -> Iterator[Episode]:
    for number in range(episodes.metadata.episodes):
        e = episodes.read(number)
        yield Episode(
            observations=episodes.vectors(e["observations"]),
            actions=np.asarray(e["actions"]),
            rewards=np.asarray(e["rewards"], dtype=np.float64),
            terminated=bool(np.any(e["terminations"])),
        )


def sidecar(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What was recorded when the data set was written. Empty if another program wrote it."""
    path = path_of(name, folder) / SIDECAR
    try:
        content = files.read_json(path)
    except files.ReadingError as error:
        if error.missing:
            return {}
        raise DataError(f"data set {name!r}: {error}; {remedy(name)}") from error
    if problem := _sidecar_problem(content):
        raise DataError(f"data set {name!r}: {path} is not a sidecar of Backbench ({problem}); {remedy(name)}")
    return content  # type: ignore[no-any-return]


def _sidecar_problem(content: Any) -> str:
    """What is wrong with a sidecar's fields; empty for nothing. Sums and figures are compared with the data."""
    if not isinstance(content, dict) or not isinstance(content.get("origin", {}), dict):
        return "no mapping, or its origin is none"
    origin, choices = content.get("origin", {}), metadata.CHOICES
    for key in ("episodes", "steps"):
        if type(content.get(key)) not in (int, float) or not 0 <= content[key] <= metadata.MOST:
            return key
    texts = [("digest", content.get("digest")), *((f"origin.{key}", origin.get(key)) for key in ("source", "licence"))]
    if wrong := [key for key, value in texts if not isinstance(value, str | None)]:
        return wrong[0]
    if "frames" in content and not (type(origin.get("n_actions")) is int and 0 < origin["n_actions"] <= choices):
        return "origin.n_actions"
    return ""


def counts(name: str) -> dict[str, int]:
    """Episodes and steps from Minari's metadata. Empty if they are not there."""
    try:
        about = metadata.read(path_of(name) / "data")
    except files.ReadingError:
        return {}
    return {"episodes": about.episodes, "steps": about.steps}


def digest(name: str) -> str | None:
    """The recorded hash of the content, without reading the data. None if no hash was recorded."""
    recorded = sidecar(name).get("digest")
    return str(recorded) if recorded else flat.digest(path_of(name))
