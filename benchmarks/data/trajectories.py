"""A data set in memory: flat arrays and the offsets of its episodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.environments.observe import DATA, Observe
from backbench.benchmarks.environments.spaces import Actions

FloatArray = NDArray[np.float32]
BLOCK = 4096  # rows that are converted to float64 at a time
# A column whose standard deviation is at most this share of its mean, or of 1, does not vary: float32 has seven
# digits, so the rest is rounding. Dividing by it would turn a small step off the data into thousands.
STILL = 1e-6


@dataclass(frozen=True)
class Episode:
    """One complete episode of T steps, as the environment gave it."""

    observations: NDArray[Any]  # (T + 1, *observation), the last one after the last action
    actions: NDArray[Any]  # (T, action_dim), or (T,) int64 if they are discrete
    rewards: NDArray[np.float64]  # (T,)
    terminated: bool  # the task ended it; otherwise it was truncated
    seed: int | None = None  # that the environment was reset with


@dataclass(frozen=True)
class Trajectories:
    """Flat arrays over all steps, episode e at ``offsets[e]:offsets[e + 1]``."""

    states: FloatArray | Frames  # (steps, *observation), or the single frames that states are stacked from
    actions: FloatArray | NDArray[np.int64]  # (steps, action_dim), or (steps,) int64 if they are discrete
    rewards: NDArray[np.float64]  # (steps,)
    terminated: NDArray[np.bool_]  # (episodes,), false for truncated episodes
    offsets: NDArray[np.int64]  # (episodes + 1,)
    name: str = ""  # the data set's id in the store
    digest: str = ""  # sha256 of the content, the data set's identity
    n_actions: int | None = None  # number of discrete actions; None if actions are vectors
    rewards_clipped: bool = False  # recorded clipped to [-1, 1], so that raw ones are unknown

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], name: str = "", actions: Actions | None = None) -> Trajectories:
        """Join episodes, reading each once. ``actions`` converts theirs to the agent's. None takes vectors as they are.

        The hash covers the environment's own actions. Raises ``DataError`` for no episodes, an empty one, shapes that
        disagree, NaN or infinite numbers, or discrete actions outside their space.
        """
        hasher, states, taken, rewards = hashlib.sha256(), _Growing(), _Growing(), _Growing()
        terminated, ends = [], [0]
        first: Episode | None = None
        for number, e in enumerate(episodes):
            first, where = first or e, f"data set {name!r}: episode {number}"
            _check(e, first, where)
            for label, array in (("observations", e.observations), ("actions", e.actions), ("rewards", e.rewards)):
                if not np.isfinite(array).all():
                    raise DataError(f"{where} has NaN or infinite {label}")
                hasher.update(f"{label} {array.dtype.str} {array.shape};".encode())
                hasher.update(np.ascontiguousarray(array).data)
            hasher.update(b"terminated" if e.terminated else b"truncated")
            states.append(np.asarray(e.observations[:-1], dtype=np.float32))
            taken.append(_to_agent(e.actions, actions, where))
            rewards.append(np.asarray(e.rewards, dtype=np.float64))
            terminated.append(e.terminated)
            ends.append(ends[-1] + len(e.rewards))
        if first is None:
            raise DataError(f"data set {name!r} has no episodes")
        return cls(
            states=states.trimmed(),
            actions=taken.trimmed(),
            rewards=rewards.trimmed(),
            terminated=np.array(terminated),
            offsets=np.array(ends, dtype=np.int64),
            name=name,
            digest=hasher.hexdigest(),
            n_actions=actions.n if actions else None,
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(episodes,) steps in each episode."""
        return np.diff(self.offsets)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """(episodes,) undiscounted return of each episode."""
        return np.add.reduceat(self.rewards, self.offsets[:-1])

    @cached_property
    def returns_to_go(self) -> FloatArray:
        """(steps,) sum of the rewards from this step, inclusive, to the end of the episode."""
        return self._returns_to_go(self.rewards)

    @cached_property
    def clipped_returns_to_go(self) -> FloatArray:
        """``returns_to_go`` of rewards that are clipped to [-1, 1] each."""
        return self._returns_to_go(np.clip(self.rewards, -1.0, 1.0))

    def _returns_to_go(self, rewards: NDArray[np.float64]) -> FloatArray:
        result = np.cumsum(rewards)
        # In place, since each temporary array takes 8 MB for a million steps.
        np.subtract(np.repeat(result[self.offsets[1:] - 1], self.lengths), result, out=result)
        result += rewards
        return result.astype(np.float32)

    def best(self, share: float) -> NDArray[np.int64]:
        """Indices of the episodes with the largest returns, in the order of the data: at most ``share`` of all steps.

        The best one is among them in any case. The rule of the Decision Transformer's code for its control %BC: the
        first episode that does not fit ends the choice. Of equal returns the later episode counts as larger.
        """
        order = np.argsort(self.returns, kind="stable")[::-1]
        budget = max(1, int(share * len(self.rewards)))
        fit = int((np.cumsum(self.lengths[order]) <= budget).sum())
        return np.sort(order[: max(1, fit)])

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state."""
        return self.states.state_shape if isinstance(self.states, Frames) else self.states.shape[1:]

    def observed(self, observe: Observe | None) -> Trajectories:
        """The same steps with state vectors that ``observe`` has filtered. UserError if an index is not in them."""
        if observe is None:
            return self
        assert not isinstance(self.states, Frames), "pixels are not filtered"
        observe.size(self.states.shape[1], f"data set {self.name!r}")
        ends = zip(self.offsets[:-1], self.offsets[1:], strict=True)
        seen = [observe.episode(DATA, index)(self.states[slice(*pair)]) for index, pair in enumerate(ends)]
        return replace(self, states=np.concatenate(seen))

    def stacked(self, stack: int) -> Trajectories:
        """The same steps with states of ``stack`` frames."""
        assert isinstance(self.states, Frames), "vectors are not stacked"
        return self if self.states.stack == stack else replace(self, states=Frames(self.states.path, stack))

    def state_statistics(self) -> tuple[FloatArray, FloatArray]:
        """Mean and scale (observation,) of state vectors over all steps.

        The scale is the standard deviation, and 1 in columns that do not vary.
        """
        mean, std, still = self._spread
        return mean.astype(np.float32), np.where(still, 1.0, std).astype(np.float32)

    @property
    def still_columns(self) -> list[int]:
        """Columns of state vectors that do not vary. Empty for pixels, which are not standardised."""
        return [] if isinstance(self.states, Frames) else np.flatnonzero(self._spread[2]).tolist()

    @cached_property
    def _spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        assert not isinstance(self.states, Frames), "pixels are not standardised"
        mean, std = _moments(self.states)
        return mean, std, std <= STILL * np.maximum(1.0, np.abs(mean))

    def summary(self) -> Mapping[str, float]:
        """Counts, and mean, standard deviation and range of the episodes' returns. The sidecar records them."""
        return figures(self.returns, len(self.rewards))


def figures(returns: NDArray[np.float64], steps: int) -> dict[str, float]:
    """See ``Trajectories.summary``."""
    of_returns = {f"return_{key}": float(getattr(returns, key)()) for key in ("mean", "std", "min", "max")}
    return {"episodes": len(returns), "steps": steps, **of_returns}


class _Growing:
    """An array that grows by rows, at most an eighth larger than its content."""

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.empty(0)
        self.count = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add ``rows``, with the shape and type of the first ones."""
        end = self.count + len(rows)
        if self.count == 0:
            self.array = rows.copy()
        elif end > len(self.array):
            self._resize(end + end // 8)  # in proportion, so that few resizes move the rows
        self.array[self.count : end] = rows
        self.count = end

    def trimmed(self) -> NDArray[Any]:
        """All rows, without spare space."""
        self._resize(self.count)
        return self.array

    def _resize(self, rows: int) -> None:
        self.array.resize((rows, *self.array.shape[1:]), refcheck=False)  # no other references yet


def _check(e: Episode, first: Episode, where: str) -> None:
    steps = len(e.rewards)
    if steps == 0:
        raise DataError(f"{where} has no steps")
    if len(e.observations) != steps + 1 or len(e.actions) != steps:
        has = f"{len(e.observations)} observations, {len(e.actions)} actions and {steps} rewards"
        raise DataError(f"{where} has {has}; expected {steps + 1}, {steps} and {steps}")
    own, others = ((o.observations.shape[1:], o.actions.shape[1:]) for o in (e, first))
    if own != others:
        raise DataError(f"{where} has observations and actions of shapes {own}, the first one of {others}")


def _to_agent(taken: NDArray[Any], actions: Actions | None, where: str) -> NDArray[Any]:
    """One episode's actions as the agent's. DataError for actions outside their space."""
    if actions is None:
        return taken.astype(np.float32)
    width = int(np.prod(taken.shape[1:], dtype=int))
    expected = 1 if actions.n is not None else len(actions.low)
    if width != expected:
        raise DataError(f"{where} has actions of {width} numbers; its space has {expected}")
    if actions.n is not None:
        if not np.issubdtype(taken.dtype, np.integer):
            raise DataError(f"{where} has actions of type {taken.dtype}; expected integers")
        first, last = actions.start, actions.start + actions.n - 1
        outside = (taken < first) | (taken > last)
        if outside.any():
            raise DataError(f"{where} has action {taken[outside][0]}; its space has {first} to {last}")
    return actions.to_agent(taken)


def _moments(rows: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation over axis 0 with the bits of NumPy in float64, without a float64 copy of all rows.

    NumPy adds rows in order: each block starts with the sum so far. It adds a single column pairwise.
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


SHARES = (0.95, 0.5)  # of steps, the headline target first


def by_rule(data: Trajectories, clipped: bool = False) -> tuple[float, ...]:
    """The 95 % and 50 % quantiles of returns, weighted by steps, to three significant digits. If equal, one.

    Unweighted quantiles would be low in data sets with many short, bad episodes. Half of the first target would be the
    better of the two if returns are negative. ``clipped``: of rewards clipped to [-1, 1] each.
    """
    starts = data.offsets[:-1]
    returns = data.clipped_returns_to_go[starts].astype(float) if clipped else data.returns
    order = np.argsort(returns, kind="stable")
    below = np.cumsum(data.lengths[order]) / len(data.rewards)
    found = [returns[order[min(int(np.searchsorted(below, share)), len(order) - 1)]] for share in SHARES]
    return tuple(dict.fromkeys(float(f"{value:.3g}") for value in found))
