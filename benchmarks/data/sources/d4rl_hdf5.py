"""D4RL's HDF5 files (Fu et al. 2020, arXiv:2004.07219): read, checked, and split into episodes.

Arrays are flat over all steps. An episode ends where ``terminals`` or ``timeouts`` is set. The steps after the last end
are an incomplete episode of unknown returns, so they are skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench import reading
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.hdf5 import FLOOR, MOST, RATIO, SPARE, Contents
from backbench.benchmarks.data.trajectories import Episode
from backbench.benchmarks.data.trial import trial
from backbench.reading import ReadingError

KINDS = {"observations": "f", "actions": "f", "rewards": "f", "terminals": "b", "timeouts": "b"}
NEXT = "next_observations"  # of kind f, not in all files
WORDS = {"f": "floating-point numbers", "b": "booleans"}
LIMIT = 1000  # time limit of these environments, in steps


@dataclass(frozen=True, eq=False)
class FlatEpisodes(Sequence[Episode]):
    """The complete episodes of a file, each assembled on demand."""

    observations: NDArray[Any]  # (steps, observation), as in the file
    actions: NDArray[Any]  # (steps, action), as in the file
    rewards: NDArray[np.float64]  # (steps,), converted
    finals: NDArray[Any]  # (episodes, observation), the observation after an episode's last action
    terminated: NDArray[np.bool_]  # (episodes,), true also if the time limit ended the same step
    bounds: NDArray[np.int64]  # (episodes + 1,) first step of each episode, then the end of the last
    dropped: int  # steps after the last end
    # Steps whose next observation differs from the observation of the next step. None if the file has no next
    # observations. Then ``finals`` repeats the last observations.
    discontinuities: int | None
    warnings: tuple[str, ...]  # one line for each oddity

    def __len__(self) -> int:
        return len(self.terminated)

    def __getitem__(self, index: Any) -> Any:
        """One episode, or a list of episodes for a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        steps = slice(self.bounds[number], self.bounds[number + 1])
        observations = np.concatenate([self.observations[steps], self.finals[number : number + 1]])
        return Episode(observations, self.actions[steps], self.rewards[steps], bool(self.terminated[number]))


def read(path: Path, observation: int, action: int) -> FlatEpisodes:
    """The episodes of a file with observations (observation,) and actions (action,). DataError for a broken file."""
    arrays = _arrays(path, observation, action)
    observations, after = arrays["observations"], arrays.pop(NEXT, None)
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"])
    if not len(ends):
        never = f"terminals and timeouts are false at all {len(observations):,} steps"
        raise DataError(f"{path} has no complete episode: {never}; get the file again")
    bounds = np.concatenate([[0], ends + 1]).astype(np.int64)
    steps = int(bounds[-1])
    for name, array in (*arrays.items(), (NEXT, after)):
        if array is not None and array.dtype.kind == "f" and not (good := np.isfinite(array[:steps])).all():
            step = int(np.argmin(good.reshape(steps, -1).all(axis=1)))
            raise DataError(f"{path}: '{name}' is NaN or infinite in {_position(step, bounds)}; get the file again")
    warnings, lengths = [], np.diff(bounds)
    if (over := lengths > LIMIT).any():
        first = int(np.argmax(over))
        which = f"the first of them episode {first} with {lengths[first]:,}"
        warnings.append(f"{path.name}: {int(over.sum()):,} episodes are longer than {LIMIT:,} steps, {which}")
    breaks = None
    if after is not None:
        # An episode's last step has no next step to compare with.
        differs = (after[: steps - 1] != observations[1:steps]).any(axis=1)
        differs[ends[:-1]] = False
        if breaks := int(differs.sum()):
            which = f"at {breaks:,} steps, the first of them {_position(int(np.argmax(differs)), bounds)}"
            warnings.append(f"{path.name}: {NEXT} is not the observation of the next step {which}")
    return FlatEpisodes(
        observations=observations[:steps],
        actions=arrays["actions"][:steps],
        rewards=arrays["rewards"][:steps].astype(np.float64),
        finals=(observations if after is None else after)[ends],
        terminated=arrays["terminals"][ends],
        bounds=bounds,
        dropped=len(observations) - steps,
        discontinuities=breaks,
        warnings=tuple(warnings),
    )


def _arrays(path: Path, observation: int, action: int) -> dict[str, NDArray[Any]]:
    """The arrays that are used. Others may be large and stay unread."""
    try:
        with reading.opened(path, MOST) as file:
            size = file.seek(0, 2)
        trial(path, size, FLOOR + RATIO * size + SPARE, partial(_read, path, observation, action))
        return _read(path, observation, action)
    except ReadingError as error:
        raise DataError(f"{error}; get the file again") from error


def _read(path: Path, observation: int, action: int) -> dict[str, NDArray[Any]]:
    widths = {"observations": (observation,), "actions": (action,), NEXT: (observation,)}
    with Contents(path) as file:
        names = (*KINDS, NEXT) if file.has(NEXT) else tuple(KINDS)
        there = file.names()
        for name in names:
            if name not in there or not file.is_array(name):
                others = ", ".join(sorted(there))[:300] or "nothing"
                raise DataError(f"{path} has no array '{name}', only {others}; is this the right file?")
        steps = file.shape("observations")[:1]
        for name in names:
            _check_form(path, name, (file.dtype(name), file.shape(name)), widths.get(name, ()), steps)
        return {name: file.array(name) for name in names}


def _check_form(
    path: Path, name: str, found: tuple[Any, tuple[int, ...]], item: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    """Check type and shape before anything is read."""
    kind, (dtype, shape) = KINDS.get(name, "f"), found
    if dtype.kind != kind:
        raise DataError(f"{path}: '{name}' is of type {dtype}, not {WORDS[kind]}; is this the right file?")
    if not shape or shape[1:] != item:
        wanted = ", ".join(map(str, ("steps", *item)))
        raise DataError(f"{path}: '{name}' has shape {shape}, expected ({wanted}); is this the right file?")
    if shape[:1] != steps:
        others = steps[0] if steps else 0
        raise DataError(f"{path}: '{name}' has {shape[0]:,} steps, 'observations' {others:,}; get the file again")
    if not shape[0]:
        raise DataError(f"{path} has no steps; get the file again")


def _position(step: int, bounds: NDArray[np.int64]) -> str:
    """Episode and step within it, both from 0."""
    episode = int(np.searchsorted(bounds, step, side="right")) - 1
    return f"episode {episode}, step {step - bounds[episode]:,}"
