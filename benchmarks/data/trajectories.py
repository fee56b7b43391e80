"""A data set in memory: flat arrays and the offsets of its episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.backbones.errors import UserError
from backbench.benchmarks.data.frames import Frames

FloatArray = NDArray[np.float32]


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
    def from_episodes(cls, episodes: Sequence[Episode], name: str = "") -> Trajectories:
        """Join episodes; refuses empty ones, shapes that disagree, and numbers that are not finite."""
        if not episodes:
            raise DataError(f"data set {name!r} has no episodes")
        hasher = hashlib.sha256()
        for number, e in enumerate(episodes):
            steps = len(e.rewards)
            if steps == 0:
                raise DataError(f"data set {name!r}: episode {number} has no steps")
            if len(e.observations) != steps + 1 or len(e.actions) != steps:
                raise DataError(
                    f"data set {name!r}: episode {number} has {len(e.observations)} observations, {len(e.actions)} "
                    f"actions and {steps} rewards; expected {steps + 1}, {steps} and {steps}"
                )
            shapes = tuple((o.observations.shape[1:], o.actions.shape[1:]) for o in (e, episodes[0]))
            if shapes[0] != shapes[1]:
                raise DataError(
                    f"data set {name!r}: observations and actions of episode {number} have shapes {shapes[0]}, those "
                    f"of the first {shapes[1]}"
                )
            for label, array in (("observations", e.observations), ("actions", e.actions), ("rewards", e.rewards)):
                if not np.isfinite(array).all():
                    raise DataError(f"data set {name!r}: episode {number} has NaN or infinite {label}")
                hasher.update(f"{label} {array.dtype.str} {array.shape};".encode())
                hasher.update(np.ascontiguousarray(array).tobytes())
            hasher.update(b"terminated" if e.terminated else b"truncated")
        lengths = [len(e.rewards) for e in episodes]
        return cls(
            states=np.concatenate([e.observations[:-1] for e in episodes]).astype(np.float32),
            actions=np.concatenate([e.actions for e in episodes]).astype(np.float32),
            rewards=np.concatenate([e.rewards for e in episodes]).astype(np.float64),
            terminated=np.array([e.terminated for e in episodes]),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            name=name,
            digest=hasher.hexdigest(),
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
        cumulative = np.cumsum(rewards)
        ends = np.repeat(cumulative[self.offsets[1:] - 1], self.lengths)
        return (ends - cumulative + rewards).astype(np.float32)

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
        mean = self.states.mean(axis=0, dtype=np.float64)
        std = np.maximum(self.states.std(axis=0, dtype=np.float64), 1e-6)
        return mean.astype(np.float32), std.astype(np.float32)

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
