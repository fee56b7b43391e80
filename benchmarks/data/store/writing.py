"""Write data sets into the store, completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.processes import environment
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.store.paths import path_of, root
from backbench.benchmarks.data.store.sidecar import write_sidecar
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import quiet_mujoco

LEFTOVERS = {".making-*": 1, ".pulling-*": 7 * 24}  # hours: an interrupted download may resume for some days


def write(name: str, episodes: Sequence[Episode], env_id: str, origin: dict[str, Any]) -> Trajectories:
    """Write a data set of vectors. One of that name is replaced.

    Args:
        name: the id.
        episodes: read twice, in order, so that a sequence may make them on demand.
        env_id: the environment whose spaces the data set gets.
        origin: how the data came about. Kept beside them as JSON.

    Raises:
        DataError: inconsistent episodes, or a store that cannot be written. Nothing is left behind.
    """
    import gymnasium

    quiet_mujoco()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a newer version of the environment exists
        with gymnasium.make(env_id) as env:
            actions = spaces.Actions.of(env.action_space, f"data set {name!r}: {env_id}")
    trajectories = Trajectories.from_episodes(episodes, name, actions)
    with staged(name) as staging:
        create(name, _buffers(episodes), origin, env=env_id)
        write_sidecar(staging / name, trajectories, origin)
    return trajectories


def create(name: str, buffers: Iterable[Any], origin: dict[str, Any], **of: Any) -> Any:
    """Let Minari write a data set. ``of`` is its environment or its spaces. Returns Minari's data set."""
    import minari

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional fields (author, reference scores) that do not apply
        return minari.create_dataset_from_buffers(
            name,
            buffers,
            algorithm_name=origin.get("algorithm"),
            author="Backbench",
            description=origin.get("description"),
            jpeg_encoding=False,
            **of,
        )


def ends(steps: int, terminated: bool) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Minari's terminations and truncations (steps,) of an episode."""
    last, never = np.arange(steps) == steps - 1, np.zeros(steps, dtype=bool)
    return (last, never) if terminated else (never, last)


def _buffers(episodes: Sequence[Episode]) -> Iterator[Any]:
    """Minari's form of each episode, one at a time, without copying its arrays."""
    from minari.data_collector import EpisodeBuffer

    for number, e in enumerate(episodes):
        terminations, truncations = ends(len(e.rewards), e.terminated)
        yield EpisodeBuffer(
            id=number,
            seed=e.seed,
            observations=e.observations,
            actions=e.actions,
            rewards=e.rewards,
            terminations=terminations,
            truncations=truncations,
        )


@contextmanager
def staged(name: str) -> Iterator[Path]:
    """A temporary store for Minari to write ``name`` into. When the block ends, the set moves into place.

    Raises:
        DataError: for an ``OSError``, such as a full disk. Names the store.
    """
    final = path_of(name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=root()))
    except OSError as error:
        raise DataError(
            f"cannot write to the data store {root()}: {error.strerror}; set MINARI_DATASETS_PATH"
        ) from error
    try:
        with environment(MINARI_DATASETS_PATH=str(staging)):  # the only way to tell Minari
            yield staging
        _swap(staging / name, final, staging / "replaced")
    except OSError as error:
        raise DataError(f"cannot write data set {name!r} to {root()}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(new: Path, final: Path, aside: Path) -> None:
    """Move ``new`` to ``final``. What was there goes ``aside``, and comes back if the move fails."""
    if not final.exists():
        os.replace(new, final)
        return
    os.replace(final, aside)
    try:
        os.replace(new, final)
    except OSError:
        os.replace(aside, final)
        raise


def clear_leftovers(older_than: float = 3600.0) -> None:
    """Remove what killed processes left, once nothing in it has changed for ``older_than`` seconds.

    Interrupted downloads stay 168 times as long.
    """
    for pattern, factor in {**LEFTOVERS, f"**/{flat.PART}*": 1}.items():
        for left in root().glob(pattern):
            with suppress(OSError):
                touched = max(p.stat().st_mtime for p in (left, *left.rglob("*")))
                if time.time() - touched <= older_than * factor:
                    continue
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
