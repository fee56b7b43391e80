"""Gymnasium's spaces: any observation as one vector, and actions between the environment's scale and the agent's.

Observations are flattened leaf by leaf, as ``gymnasium.spaces.flatten`` does, but the keys of a Dict always come in
alphabetical order (achieved_goal, desired_goal, observation). Discrete observations become one-hot vectors.
An agent's actions lie in [-1, 1], or are discrete, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.errors import UserError

ABSURD = 1e10  # larger bounds count as none


def leaves(space: Any, value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, space, value) of every space that contains no other, in the order of the vector."""
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict | Tuple):
        for key, part in sorted(space.spaces.items()) if isinstance(space, Dict) else enumerate(space.spaces):
            yield from leaves(part, None if value is None else value[key], f"{path}{key}.")
    else:
        yield path.rstrip("."), space, value


def _vectors(space: Any, value: Any) -> NDArray[Any]:
    """(n, size) of one leaf's n values."""
    from gymnasium.spaces import Discrete, MultiDiscrete

    array = np.asarray(value)
    array = array.reshape(len(array), -1)
    if isinstance(space, Discrete | MultiDiscrete):
        array = array - np.reshape(space.start, -1)
        counts = np.reshape(space.n if isinstance(space, Discrete) else space.nvec, -1)
        if ((array < 0) | (array >= counts)).any():  # a negative one would count from the end
            raise UserError(f"observations outside {space}")
        return np.concatenate([np.eye(n, dtype=np.float32)[array[:, i]] for i, n in enumerate(counts)], axis=1)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float32)


def check_observations(space: Any, where: str) -> None:
    """Raise ``UserError``, which ``where`` begins, for pictures, text, graphs and sequences: they are not vectors."""
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    for name, leaf, _ in leaves(space, None):
        called = f"observations {name!r}" if name else "observations"
        if isinstance(leaf, Box) and leaf.dtype == np.uint8 and len(leaf.shape) > 1:
            raise UserError(f"{where} has {called} of pixels {leaf.shape}; vectors only, except in Atari suites")
        if not isinstance(leaf, Box | Discrete | MultiDiscrete | MultiBinary):
            raise UserError(f"{where} has {called} of {type(leaf).__name__}, which are not vectors")


def are_vectors(space: Any) -> bool:
    """Whether observations of ``space`` are vectors of floats already."""
    from gymnasium.spaces import Box

    return isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


def flatten(space: Any, observations: Any, one: bool = False) -> NDArray[Any]:
    """(n, size) from n observations, as (nested) arrays, or (size,) from ``one``. Plain vectors keep their type."""
    if are_vectors(space):
        return np.asarray(observations)
    values = leaves(space, observations)
    vectors = np.concatenate([_vectors(leaf, [value] if one else value) for _, leaf, value in values], axis=1)
    return vectors[0] if one else vectors


def size(space: Any) -> int:
    """Length of the vector for an observation of ``space``."""
    from gymnasium.spaces import flatdim

    return sum(int(flatdim(leaf)) for _, leaf, _ in leaves(space, None))


def describe(space: Any) -> str:
    """The leaves and their sizes, such as ``achieved_goal 2 + desired_goal 2 + observation 27``."""
    return " + ".join(f"{name} {size(leaf)}".lstrip() for name, leaf, _ in leaves(space, None))


@dataclass(frozen=True)
class Actions:
    """The actions of an environment."""

    n: int | None  # number of discrete actions; None for vectors
    start: int  # the environment's first discrete action
    low: NDArray[np.float64]  # bounds of a vector, flat: (a,)
    high: NDArray[np.float64]
    shape: tuple[int, ...]  # of the environment's vector
    unit: bool  # the bounds are -1 and 1, so nothing is rescaled
    dtype: Any = np.float32  # of the environment's vector

    @classmethod
    def of(cls, space: Any, where: str) -> Actions:
        """The actions of ``space``; ``UserError``, which ``where`` begins, if unbounded or of a kind without a head."""
        from gymnasium.spaces import Box, Discrete

        if isinstance(space, Discrete):
            return cls(int(space.n), int(space.start), np.zeros(0), np.zeros(0), (), False)
        if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
            raise UserError(f"{where} has actions {space}; bounded vectors (Box) or discrete ones (Discrete) only")
        low, high = (np.asarray(bound, dtype=np.float64).reshape(-1) for bound in (space.low, space.high))
        if not (np.abs([low, high]) < ABSURD).all():
            # ClipAction and RescaleAction keep, or refuse, infinite bounds.
            bounds = f"gymnasium.spaces.Box(-1, 1, {space.shape})"
            wrap = f"gymnasium.wrappers.TransformAction(env, lambda a: a, {bounds})"
            raise UserError(f"{where} has actions without bounds ({space}); declare bounds: {wrap}")
        unit = bool((low == -1).all() and (high == 1).all())
        return cls(None, 0, low, high, tuple(space.shape), unit, space.dtype)

    def to_agent(self, actions: Any) -> NDArray[Any]:
        """(n, …) of the environment -> (n, a) float32 with the bounds at -1 and 1, or (n,) int64 from 0."""
        array = np.asarray(actions)
        if self.n is not None:
            return array.reshape(-1).astype(np.int64) - self.start
        array = array.reshape(len(array), -1)
        if not self.unit:
            span = np.where(self.high > self.low, self.high - self.low, 1.0)
            array = 2.0 * (array - self.low) / span - 1.0
        return array.astype(np.float32)

    def to_environment(self, action: NDArray[Any]) -> Any:
        """One action of the agent -> the environment's."""
        if self.n is not None:
            return int(action) + self.start
        if self.unit:
            return action.reshape(self.shape)
        # A rounding error must not exceed the bounds: some environments refuse that.
        value = self.low + (action.astype(np.float64) + 1.0) / 2.0 * (self.high - self.low)
        return np.clip(value, self.low, self.high).astype(self.dtype).reshape(self.shape)
