"""Data sets of pixels in the Minari store: single frames, compressed without loss, opened by Minari as any other.

Minari's own writer keeps images as lossy JPEG, or without any compression. Here its HDF5 layout is written with
gzipped observations, and beside it ``frames.npy``: the same frames, unpacked, which training reads windows from.
``frames.npy`` may be deleted; the next reading makes it anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.data.frames import FrameArray, Frames, writing
from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories
from backbench.errors import UserError

FRAMES = "frames.npy"
HDF5 = Path("data") / "main_data.hdf5"
CHUNK = 32  # frames that are compressed together: what does not move costs little more than once
LEVEL = 6


class _Hash:
    """The identity of a set of frames: of all frames in order, and of what goes with them, episode by episode."""

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
        raise DataError(
            f"{where} has {frames} frames, actions of shape {e.actions.shape} and {steps} rewards; expected "
            f"{steps + 1}, ({steps},) and {steps}"
        )
    if not np.issubdtype(e.actions.dtype, np.integer):
        raise DataError(f"{where} has actions of type {e.actions.dtype}; expected integers")
    outside = (e.actions < 0) | (e.actions >= n_actions)
    if outside.any():
        step = int(np.argmax(outside))
        raise DataError(
            f"{where}, step {step}: action {e.actions[step]} is outside the game's set, 0 to {n_actions - 1}"
        )
    if not np.isfinite(e.rewards).all():
        raise DataError(f"{where} has NaN or infinite rewards")


def write(name: str, episodes: Iterable[Episode], n_actions: int, origin: dict[str, Any]) -> Trajectories:
    """Write episodes of frames as they come, so that no more than one of them is in memory.

    Args:
        name: the data set's id.
        episodes: observations uint8 (T + 1, 84, 84), single frames; actions (T,) integers below ``n_actions``.
        n_actions: size of the game's set of actions.
        origin: how the data came about; kept beside the data as JSON. ``rewards: clipped`` says that raw ones are lost.

    Raises:
        DataError: what an episode should not hold, or a store that cannot be written; nothing is left behind.
    """
    import h5py
    import minari
    from gymnasium.spaces import Box, Discrete

    kept: list[Episode] = []  # all but the frames
    hasher = _Hash()
    with store.staged(name) as staging:
        folder = staging / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optional fields (author, reference scores) that do not apply
            dataset = minari.create_dataset_from_buffers(
                name,
                [],
                observation_space=Box(0, 255, (84, 84), np.uint8),
                action_space=Discrete(n_actions),
                algorithm_name=origin.get("algorithm"),
                author="Backbench",
                description=origin.get("description"),
                jpeg_encoding=False,
            )
        with writing(folder / FRAMES) as out, h5py.File(folder / HDF5, "a", track_order=True) as file:
            for number, e in enumerate(episodes):
                _checked(name, number, e, n_actions, len(e.observations))
                try:
                    out.append(e.observations)
                except ValueError as error:
                    raise DataError(f"data set {name!r}: episode {number}: {error}") from error
                hasher.frames.update(np.ascontiguousarray(e.observations).data)
                bare = Episode(
                    np.zeros(0), e.actions.astype(np.int64), e.rewards.astype(np.float64), e.terminated, e.seed
                )
                hasher.add(bare.actions, bare.rewards, bare.terminated)
                _put(file, number, bare, e.observations)
                kept.append(bare)
        steps = sum(len(e.rewards) for e in kept)
        dataset.storage.update_metadata({"total_episodes": len(kept), "total_steps": steps})
        dataset.storage.update_metadata({"dataset_size": dataset.storage.get_size()})
        origin = {**origin, "n_actions": n_actions}
        made = _joined(kept, folder / FRAMES, name, hasher.digest, origin)
        store.write_sidecar(folder, made, origin, {"frames": FRAMES})
    return _joined(kept, store.path_of(name) / FRAMES, name, hasher.digest, origin)


def _put(file: Any, number: int, e: Episode, frames: FrameArray) -> None:
    """One episode in Minari's layout."""
    group = file.create_group(f"episode_{number}")
    group.attrs["id"], group.attrs["total_steps"] = number, len(e.rewards)
    if e.seed is not None:
        group.attrs["seed"] = e.seed
    ended = np.zeros(len(e.rewards), dtype=bool)
    ended[-1] = True
    never = np.zeros_like(ended)
    chunk = (min(CHUNK, len(frames)), *frames.shape[1:])
    group.create_dataset("observations", data=frames, chunks=chunk, compression="gzip", compression_opts=LEVEL)
    group.create_dataset("actions", data=e.actions)
    group.create_dataset("rewards", data=e.rewards)
    group.create_dataset("terminations", data=ended if e.terminated else never)
    group.create_dataset("truncations", data=never if e.terminated else ended)


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


def read(name: str, noted: Mapping[str, Any]) -> Trajectories:
    """The data set, its frames unpacked if they are not; checked against the hash in ``noted``.

    Raises:
        DataError: truncated, inconsistent, or changed since it was made.
    """
    import h5py

    folder, origin = store.path_of(name), noted["origin"]
    problem = f"data set {name!r} in {folder}"
    hasher, episodes = _Hash(), []
    try:
        with h5py.File(folder / HDF5, "r") as file:
            groups = [file[f"episode_{number}"] for number in range(len(file))]
            for number, group in enumerate(groups):
                terminated = bool(group["terminations"][-1:].any())
                e = Episode(np.zeros(0), group["actions"][:], group["rewards"][:], terminated)
                _checked(name, number, e, int(origin["n_actions"]), len(group["observations"]))
                hasher.add(e.actions, e.rewards, e.terminated)
                episodes.append(e)
            if not (folder / FRAMES).is_file():
                _unpack(groups, folder)
        result = _joined(episodes, folder / FRAMES, name, "", origin)
        assert isinstance(result.states, Frames)
        for block in result.states.blocks():
            hasher.frames.update(block.data)
    except (DataError, UserError) as error:
        raise DataError(f"{error} (in {folder}); {store.remedy(name)}") from error
    except (OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{problem} cannot be read ({reason}); {store.remedy(name)}") from error
    if hasher.digest != noted.get("digest"):
        raise DataError(f"{problem} is not what was written: its hash has changed; {store.remedy(name)}")
    return _joined(episodes, folder / FRAMES, name, hasher.digest, origin)


def _unpack(groups: list[Any], folder: Path) -> None:
    """Write ``frames.npy`` from the compressed frames, whole or not at all."""
    handle, part = tempfile.mkstemp(prefix=".frames-", dir=folder)
    os.close(handle)
    try:
        with writing(Path(part)) as out:
            for group in groups:
                out.append(group["observations"][:])
        os.replace(part, folder / FRAMES)
    finally:
        Path(part).unlink(missing_ok=True)
