"""A data set in memory: flat arrays and the offsets of its episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.environments.spaces import Actions
from backbench.errors import UserError

FloatArray = NDArray[np.float32]
BLOCK = 4096  # rows that are float64 at a time


class DataError(UserError):
    """A data set that is missing, broken or inconsistent; says which, where, and what to do."""


@dataclass(frozen=True)
class Episode:
    """One whole episode of T steps, as the environment gave it.

    Attributes:
        observations: (T + 1, *observation), the last one being the one after the last action.
        actions: (T, action_dim), or (T,) int64 where they are numbered.
        rewards: (T,) float64.
        terminated: whether the task ended it (fell over); otherwise time ran out.
        seed: what the environment was reset with.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: bool
    seed: int | None = None


@dataclass(frozen=True)
class Trajectories:
    """Flat arrays over all steps, episode e at ``offsets[e]:offsets[e + 1]``.

    Attributes:
        states: (steps, *observation) float32, or the single frames that states are stacked from.
        actions: (steps, action_dim) float32, or (steps,) int64 where they are numbered.
        rewards: (steps,) float64.
        terminated: (episodes,) bool, false where time ran out.
        offsets: (episodes + 1,) int64.
        name: the data set's id in the store.
        digest: sha256 of the content, the data set's identity.
        n_actions: how many numbered actions there are; None where actions are vectors.
        rewards_clipped: whether each reward was clipped to [-1, 1] when the data were gathered; raw ones are not known.
    """

    states: FloatArray | Frames
    actions: FloatArray | NDArray[np.int64]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    name: str = ""
    digest: str = ""
    n_actions: int | None = None
    rewards_clipped: bool = False

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], name: str = "", actions: Actions | None = None) -> Trajectories:
        """Join episodes, each of which is looked at once and may be dropped after.

        Args:
            episodes: with the environment's own actions; the hash is over these.
            name: the data set's id.
            actions: how they become the agent's; None takes them as they are, as vectors.

        Raises:
            DataError: no episodes, empty ones, shapes that disagree, numbers that are not finite, numbered actions that
                there are not; names the episode.
        """
        hasher = hashlib.sha256()
        states, taken, rewards = _Growing(), _Growing(), _Growing()
        terminated, ends = [], [0]
        first: Episode | None = None
        for number, e in enumerate(episodes):
            first = first or e
            _check(e, first, number, name)
            for label, array in (("observations", e.observations), ("actions", e.actions), ("rewards", e.rewards)):
                if not np.isfinite(array).all():
                    raise DataError(f"data set {name!r}: episode {number} has NaN or infinite {label}")
                hasher.update(f"{label} {array.dtype.str} {array.shape};".encode())
                hasher.update(np.ascontiguousarray(array).data)
            hasher.update(b"terminated" if e.terminated else b"truncated")
            states.append(np.asarray(e.observations[:-1], dtype=np.float32))
            taken.append(_of_agent(e.actions, actions, number, name))
            rewards.append(np.asarray(e.rewards, dtype=np.float64))
            terminated.append(e.terminated)
            ends.append(ends[-1] + len(e.rewards))
        if first is None:
            raise DataError(f"data set {name!r} has no episodes")
        return cls(
            states=states.whole(),
            actions=taken.whole(),
            rewards=rewards.whole(),
            terminated=np.array(terminated),
            offsets=np.array(ends, dtype=np.int64),
            name=name,
            digest=hasher.hexdigest(),
            n_actions=None if actions is None else actions.n,
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(episodes,) steps of each episode."""
        return np.diff(self.offsets)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """(episodes,) undiscounted return of each episode."""
        return np.add.reduceat(self.rewards, self.offsets[:-1])

    @cached_property
    def returns_to_go(self) -> FloatArray:
        """(steps,) sum of the rewards from this step to the episode's end, this step included."""
        return self._returns_to_go(self.rewards)

    @cached_property
    def clipped_returns_to_go(self) -> FloatArray:
        """``returns_to_go`` of rewards that are clipped to [-1, 1] each."""
        return self._returns_to_go(np.clip(self.rewards, -1.0, 1.0))

    def _returns_to_go(self, rewards: NDArray[np.float64]) -> FloatArray:
        result = np.cumsum(rewards)
        # In place: a million steps are 8 MB each time.
        np.subtract(np.repeat(result[self.offsets[1:] - 1], self.lengths), result, out=result)
        result += rewards
        return result.astype(np.float32)

    @cached_property
    def timesteps(self) -> NDArray[np.int64]:
        """(steps,) position within the episode, from 0."""
        return np.arange(len(self.rewards)) - np.repeat(self.offsets[:-1], self.lengths)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state."""
        return self.states.state_shape if isinstance(self.states, Frames) else self.states.shape[1:]

    def state_statistics(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of state vectors over all steps; the latter never below 1e-6."""
        assert not isinstance(self.states, Frames), "pixels are not standardised"
        mean, std = _moments(self.states)
        return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)

    def summary(self) -> Mapping[str, float]:
        """What a data set says of itself: counts, and mean, spread and range of its episodes' returns."""
        r = self.returns
        return {
            "episodes": len(r),
            "steps": len(self.rewards),
            "return_mean": float(r.mean()),
            "return_std": float(r.std()),
            "return_min": float(r.min()),
            "return_max": float(r.max()),
        }


class _Growing:
    """An array that rows are added to; never far larger than what is in it."""

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None
        self.count = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add ``rows``, which have the shape and type of the first ones."""
        end = self.count + len(rows)
        if self.array is None:
            self.array = rows.copy()
        elif end > len(self.array):
            self._resize(end + end // 8)  # in proportion, so that moving the rows costs little in all
        self.array[self.count : end] = rows
        self.count = end

    def whole(self) -> NDArray[Any]:
        """The rows so far."""
        assert self.array is not None, "nothing was added"
        self._resize(self.count)
        return self.array

    def _resize(self, rows: int) -> None:
        assert self.array is not None
        self.array.resize((rows, *self.array.shape[1:]), refcheck=False)  # nobody else has it yet


def _check(e: Episode, first: Episode, number: int, name: str) -> None:
    steps = len(e.rewards)
    if steps == 0:
        raise DataError(f"data set {name!r}: episode {number} has no steps")
    if len(e.observations) != steps + 1 or len(e.actions) != steps:
        raise DataError(
            f"data set {name!r}: episode {number} has {len(e.observations)} observations, {len(e.actions)} "
            f"actions and {steps} rewards; expected {steps + 1}, {steps} and {steps}"
        )
    shapes = tuple((o.observations.shape[1:], o.actions.shape[1:]) for o in (e, first))
    if shapes[0] != shapes[1]:
        raise DataError(
            f"data set {name!r}: observations and actions of episode {number} have shapes {shapes[0]}, those "
            f"of the first {shapes[1]}"
        )


def _of_agent(taken: NDArray[Any], actions: Actions | None, number: int, name: str) -> NDArray[Any]:
    """One episode's actions as the agent sees them; DataError for numbers that the space does not have."""
    if actions is None:
        return taken.astype(np.float32)
    width = int(np.prod(taken.shape[1:], dtype=int))
    expected = 1 if actions.n is not None else len(actions.low)
    if width != expected:
        raise DataError(f"data set {name!r}: episode {number} has actions of {width} numbers; its space has {expected}")
    if actions.n is not None:
        if not np.issubdtype(taken.dtype, np.integer):
            raise DataError(f"data set {name!r}: episode {number} has actions of type {taken.dtype}; expected integers")
        last = actions.start + actions.n - 1
        outside = (taken < actions.start) | (taken > last)
        if outside.any():
            raise DataError(
                f"data set {name!r}: episode {number} has action {taken[outside][0]}; its space has {actions.start} to "
                f"{last}"
            )
    return actions.to_agent(taken)


def _moments(rows: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over axis 0, to the bit those of numpy in float64, without a float64 copy of all.

    Numpy adds whole rows in order, and so does this: the sum so far comes before the next block. A single column it
    adds otherwise (by halves), and that one is left to it.
    """
    if rows.ndim != 2 or rows.shape[1] == 1 or not rows.flags.c_contiguous:
        return rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)

    def total(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        so_far: NDArray[np.float64] = np.empty((0, rows.shape[1]))
        for begin in range(0, len(rows), BLOCK):
            block = of(rows[begin : begin + BLOCK].astype(np.float64))
            so_far = np.add.reduce(np.concatenate([so_far, block]), axis=0, keepdims=True)
        return so_far.reshape(-1)

    mean = total(lambda block: block) / len(rows)
    variance = total(lambda block: np.square(block - mean)) / len(rows)
    return mean, np.sqrt(variance)
