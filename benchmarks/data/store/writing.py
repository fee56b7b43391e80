"""Write data sets into the store, completely or not at all."""

import json
import os
import shutil
import time
import urllib.parse
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench import claims, files
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.processes import environment
from backbench.benchmarks.data.store import metadata
from backbench.benchmarks.data.store.paths import SIDECAR, path_of, root
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import quiet_mujoco
from backbench.files import LEFTOVER, abandoned, temporary_name, write_whole

PULLED = 7 * 24 * 3600.0  # seconds in which an interrupted download may resume
REPLACED = "replaced-"  # beside a new data set, while it moves into place: the old one, with its quoted name


def write(name: str, episodes: Sequence[Episode], env_id: str, origin: dict[str, Any], **kwargs: Any) -> Trajectories:
    """Write a data set of vectors, with the spaces of the environment ``env_id``, made with ``kwargs``.

    One of that name is replaced.

    ``episodes`` are read twice, so that a sequence may make them on demand. ``origin`` is kept beside them as JSON.
    Raises ``DataError`` for inconsistent episodes, or a store that cannot be written. Nothing is left behind.
    """
    import gymnasium

    quiet_mujoco()
    # A newer version of the environment exists, which Gymnasium warns of.
    with warnings.catch_warnings(action="ignore"), gymnasium.make(env_id, **kwargs) as env:
        spec = env.spec
        actions = spaces.Actions.of(env.action_space, f"data set {name!r}: {env_id}")
    trajectories = Trajectories.from_episodes(episodes, name, actions)
    with staged(name) as staging:
        create(name, _buffers(episodes), origin, env=spec)
        write_sidecar(staging / name, trajectories, origin)
    return trajectories


def write_sidecar(folder: Path, trajectories: Trajectories, origin: dict[str, Any], **more: Any) -> None:
    """Record hashes, counts and origin of the data set in ``folder``."""
    written = metadata.read(folder / "data").spaces_digest
    content = {"digest": trajectories.digest, "spaces": written, **trajectories.summary(), "origin": origin, **more}
    write_whole(folder / SIDECAR, json.dumps(content, indent=1, sort_keys=True) + "\n")


def create(name: str, buffers: Iterable[Any], origin: dict[str, Any], **of: Any) -> Any:
    """Let Minari write a data set. ``of`` is its environment or its spaces. Returns Minari's data set."""
    import minari

    about = {"algorithm_name": origin.get("algorithm"), "description": origin.get("description")}
    with warnings.catch_warnings(action="ignore"):  # optional fields (author, reference scores) that do not apply
        return minari.create_dataset_from_buffers(name, buffers, author="Backbench", jpeg_encoding=False, **about, **of)


def ends(steps: int, terminated: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Minari's terminations and truncations (steps,) of an episode."""
    last, never = np.arange(steps) == steps - 1, np.zeros(steps, dtype=bool)
    return (last, never) if terminated else (never, last)


def _buffers(episodes: Sequence[Episode]) -> Iterator[Any]:
    """Minari's form of each episode, one at a time, without copying its arrays."""
    from minari.data_collector import EpisodeBuffer

    for number, e in enumerate(episodes):
        content = {name: getattr(e, name) for name in ("seed", "observations", "actions", "rewards")}
        terminations, truncations = ends(len(e.rewards), e.terminated)
        yield EpisodeBuffer(id=number, terminations=terminations, truncations=truncations, **content)


@contextmanager
def staged(name: str) -> Iterator[Path]:
    """A temporary store for Minari to write ``name`` into, which moves into place. DataError for an OSError."""
    final = path_of(name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = root() / temporary_name("making")
        staging.mkdir()
    except OSError as error:
        message = f"cannot write to the data store {root()}: {error.strerror}; set MINARI_DATASETS_PATH"
        raise DataError(message) from error
    try:
        with environment(MINARI_DATASETS_PATH=str(staging)):  # the only way to tell Minari
            yield staging
        replaced = staging / f"{REPLACED}{urllib.parse.quote(name, safe='')}"
        if final.exists():
            os.replace(final, replaced)
        try:
            os.replace(staging / name, final)
        except OSError:
            if replaced.exists():
                os.replace(replaced, final)
            raise
    except OSError as error:
        raise DataError(f"cannot write data set {name!r} to {root()}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def clear_leftovers() -> None:
    """Remove what dead processes left of data sets, and downloads that nobody resumed for a week."""
    for old in root().glob(f".making.*/{REPLACED}*"):  # killed while a new one moved into its place
        final = path_of(urllib.parse.unquote(old.name.removeprefix(REPLACED)))
        if not final.exists() and (left := LEFTOVER.fullmatch(old.parent.name)) and abandoned(old.parent, left[1]):
            os.replace(old, final)
    claims.clear(root())
    for folder in {root(), *(path.parent for path in root().glob("**/.*.tmp"))}:
        files.clear_leftovers(folder)
    for folder in root().glob(".pulling-*"):
        with suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) > PULLED:
                shutil.rmtree(folder)
