"""Data sets of pixels in the store: single frames, gzipped, in Minari's HDF5 layout.

Minari's own writer stores images as lossy JPEG or without compression. Beside the HDF5 file lies ``frames.npy``: the
same frames without compression, from which training reads windows. If you delete it, the next reading writes it again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import FrameArray, Frames, writing
from backbench.benchmarks.data.hdf5 import FLOOR, RATIO, SPARE, Contents
from backbench.benchmarks.data.store.paths import path_of, reading
from backbench.benchmarks.data.store.writing import create, ends, staged, write_sidecar
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.trial import trial
from backbench.files import write_whole

FRAMES = "frames.npy"
HDF5 = Path("data") / "main_data.hdf5"
CHUNK = 32  # frames compressed together, so that what does not move is stored about once
LEVEL = 6
PACKED = 1000  # bytes of frames that a byte of the file may stand for; they are read ``BLOCK`` frames at a time
BLOCK = 1024


class _Hash:
    """The hash of a data set of frames: of all frames in order, and of the rest, episode by episode."""

    def __init__(self) -> None:
        self.frames, self.rest = hashlib.sha256(), hashlib.sha256()

    def add(self, actions: NDArray[np.int64], rewards: NDArray[np.float64], terminated: bool) -> None:
        self.rest.update(f"episode {len(rewards)} {terminated};".encode())
        self.rest.update(actions.astype("<i8").tobytes() + rewards.astype("<f8").tobytes())

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.frames.digest() + self.rest.digest()).hexdigest()


def _checked(name: str, number: int, e: Episode, n_actions: int, frames: int) -> None:
    where, steps = f"data set {name!r}: episode {number}", len(e.rewards)
    if steps == 0:
        raise DataError(f"{where} has no steps")
    if frames != steps + 1 or e.actions.shape != (steps,):
        has = f"{frames} frames, actions of shape {e.actions.shape} and {steps} rewards"
        raise DataError(f"{where} has {has}; expected {steps + 1}, ({steps},) and {steps}")
    if not np.issubdtype(e.actions.dtype, np.integer):
        raise DataError(f"{where} has actions of type {e.actions.dtype}; expected integers")
    outside = (e.actions < 0) | (e.actions >= n_actions)
    if outside.any():
        step = int(np.argmax(outside))
        said = f"action {e.actions[step]} is outside the game's set, 0 to {n_actions - 1}"
        raise DataError(f"{where}, step {step}: {said}")
    if not np.isfinite(e.rewards).all():
        raise DataError(f"{where} has NaN or infinite rewards")


def write(name: str, episodes: Iterable[Episode], n_actions: int, origin: dict[str, Any]) -> Trajectories:
    """Write episodes of frames uint8 (T + 1, 84, 84), one in memory at a time, for a game of ``n_actions`` actions.

    ``origin`` is kept beside them as JSON. Its ``rewards: clipped`` says that raw ones are lost. Raises ``DataError``
    for inconsistent episodes, or a store that cannot be written. Nothing is left behind.
    """
    import h5py
    from gymnasium.spaces import Box, Discrete

    kept: list[Episode] = []  # without their frames
    hasher = _Hash()
    with staged(name) as staging:
        folder = staging / name
        frames = Box(0, 255, (84, 84), np.uint8)
        dataset = create(name, [], origin, observation_space=frames, action_space=Discrete(n_actions))
        with writing(folder / FRAMES) as append, h5py.File(folder / HDF5, "a", track_order=True) as file:
            for number, e in enumerate(episodes):
                _checked(name, number, e, n_actions, len(e.observations))
                try:
                    append(e.observations)
                except ValueError as error:
                    raise DataError(f"data set {name!r}: episode {number}: {error}") from error
                hasher.frames.update(np.ascontiguousarray(e.observations).data)
                actions, rewards = e.actions.astype(np.int64), e.rewards.astype(np.float64)
                bare = Episode(np.zeros(0), actions, rewards, e.terminated, e.seed)
                hasher.add(bare.actions, bare.rewards, bare.terminated)
                _put(file, number, bare, e.observations)
                kept.append(bare)
        steps = sum(len(e.rewards) for e in kept)
        dataset.storage.update_metadata({"total_episodes": len(kept), "total_steps": steps})
        dataset.storage.update_metadata({"dataset_size": dataset.storage.get_size()})
        origin = {**origin, "n_actions": n_actions}
        made = _joined(kept, folder / FRAMES, name, hasher.digest, origin)
        write_sidecar(folder, made, origin, frames=FRAMES)
    return _joined(kept, path_of(name) / FRAMES, name, hasher.digest, origin)


def _put(file: Any, number: int, e: Episode, frames: FrameArray) -> None:
    """One episode in Minari's layout."""
    group = file.create_group(f"episode_{number}")
    group.attrs["id"], group.attrs["total_steps"] = number, len(e.rewards)
    if e.seed is not None:
        group.attrs["seed"] = e.seed
    terminations, truncations = ends(len(e.rewards), e.terminated)
    chunk = (min(CHUNK, len(frames)), *frames.shape[1:])
    group.create_dataset("observations", data=frames, chunks=chunk, compression="gzip", compression_opts=LEVEL)
    rest = {"actions": e.actions, "rewards": e.rewards, "terminations": terminations, "truncations": truncations}
    for name, array in rest.items():
        group.create_dataset(name, data=array)


def _joined(episodes: list[Episode], frames: Path, name: str, digest: str, origin: Mapping[str, Any]) -> Trajectories:
    if not episodes:
        raise DataError(f"data set {name!r} has no episodes")
    lengths = [len(e.rewards) for e in episodes]
    return Trajectories(
        states=Frames(frames),
        actions=np.concatenate([e.actions for e in episodes]),
        rewards=np.concatenate([e.rewards for e in episodes]),
        terminated=np.array([e.terminated for e in episodes]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        name=name,
        digest=digest,
        n_actions=int(origin["n_actions"]),
        rewards_clipped=origin.get("rewards") == "clipped",
    )


def read(name: str, recorded: Mapping[str, Any]) -> Trajectories:
    """The data set, checked against the sidecar ``recorded``: DataError. Writes ``frames.npy`` if it is missing."""
    folder, origin = path_of(name), recorded["origin"]
    path, hasher, episodes = folder / HDF5, _Hash(), []
    with reading(name, folder):
        unpack = not (folder / FRAMES).is_file()
        size = path.stat().st_size if path.is_file() else 0
        trial(path, size, FLOOR + RATIO * size + SPARE, partial(_try, path, unpack))
        with Contents(path, PACKED) as file:
            for number in range(len(file.names())):
                e, shape = _episode(file, number)
                _checked(name, number, e, int(origin["n_actions"]), shape[0])
                hasher.add(e.actions, e.rewards, e.terminated)
                episodes.append(e)
            if unpack:
                write_whole(folder / FRAMES, partial(_unpack, file, len(episodes)))
        frames = Frames(folder / FRAMES)
        if len(frames) != (total := sum(len(e.rewards) + 1 for e in episodes)):
            raise DataError(f"data set {name!r} has {len(frames):,} frames in {FRAMES} and {total:,} in its HDF5 file")
        for block in frames.blocks():
            hasher.frames.update(block.data)
        if hasher.digest != recorded.get("digest"):
            raise DataError(f"data set {name!r} is not what was written: its hash has changed")
        return _joined(episodes, folder / FRAMES, name, hasher.digest, origin)


def _episode(file: Contents, number: int) -> tuple[Episode, tuple[int, ...]]:
    """An episode without its frames, and their shape."""
    key = f"episode_{number}"
    shape = file.shape(key, "observations")
    if file.dtype(key, "observations") != np.uint8 or len(shape) != 3:
        raise DataError(f"episode {number} has {file.dtype(key, 'observations')} {shape}; expected frames uint8")
    actions, rewards, ends_ = (file.array(key, label) for label in ("actions", "rewards", "terminations"))
    if np.issubdtype(actions.dtype, np.integer):  # ``_checked`` names any other type
        actions = actions.astype(np.int64)
    return Episode(np.zeros(0), actions, rewards.astype(np.float64), bool(ends_[-1:].any())), shape


def _unpack(file: Contents, episodes: int, path: Path) -> None:
    """Write ``frames.npy`` from the compressed frames."""
    with writing(path) as append:
        for number in range(episodes):
            for block in file.rows((f"episode_{number}", "observations"), BLOCK):
                append(block)


def _try(path: Path, unpack: bool) -> None:
    """Read all that ``read`` reads, see ``trial``."""
    with Contents(path, PACKED) as file:
        for number in range(len(file.names())):
            _episode(file, number)
            for _ in file.rows((f"episode_{number}", "observations"), BLOCK) if unpack else ():
                pass
