"""Write data sets into the store, completely or not at all."""

import json
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
from backbench.benchmarks.data.store import flat, metadata
from backbench.benchmarks.data.store.paths import SIDECAR, path_of, root
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import quiet_mujoco
from backbench.files import write_whole

LEFTOVERS = {".making-*": 1, ".pulling-*": 7 * 24}  # hours: an interrupted download may resume for some days


def write(name: str, episodes: Sequence[Episode], env_id: str, origin: dict[str, Any]) -> Trajectories:
    """Write a data set of vectors, with the spaces of the environment ``env_id``. One of that name is replaced.

    ``episodes`` are read twice, so that a sequence may make them on demand. ``origin`` is kept beside them as JSON.
    Raises ``DataError`` for inconsistent episodes, or a store that cannot be written. Nothing is left behind.
    """
    import gymnasium

    quiet_mujoco()
    # A newer version of the environment exists, which Gymnasium warns of.
    with warnings.catch_warnings(action="ignore"), gymnasium.make(env_id) as env:
        actions = spaces.Actions.of(env.action_space, f"data set {name!r}: {env_id}")
    trajectories = Trajectories.from_episodes(episodes, name, actions)
    with staged(name) as staging:
        create(name, _buffers(episodes), origin, env=env_id)
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
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=root()))
    except OSError as error:
        message = f"cannot write to the data store {root()}: {error.strerror}; set MINARI_DATASETS_PATH"
        raise DataError(message) from error
    try:
        with environment(MINARI_DATASETS_PATH=str(staging)):  # the only way to tell Minari
            yield staging
        if final.exists():
            os.replace(final, staging / "replaced")
        try:
            os.replace(staging / name, final)
        except OSError:
            if (staging / "replaced").exists():
                os.replace(staging / "replaced", final)
            raise
    except OSError as error:
        raise DataError(f"cannot write data set {name!r} to {root()}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def clear_leftovers(older_than: float = 3600.0) -> None:
    """Remove what killed processes left unchanged for ``older_than`` seconds; downloads 168 times as long."""
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
