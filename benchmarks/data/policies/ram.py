"""Atari behaviour policies in NumPy. They read the console's 128 bytes of memory, the complete state of a game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.exact import sample
from backbench.benchmarks.data.policies.gaussian import PACK, read_snapshot

Array = NDArray[np.float64]

SHAPES = ("obs_mean", "obs_scale", "w0", "b0", "w1", "b1", "w2", "b2")
CLIP = 10.0  # bound of normalised observations, as in training
DRAWS = 3  # random numbers per row and call, used or not: whether to explore, how, and which action


@dataclass(frozen=True)
class RamPolicy:
    """A perceptron with two hidden ``tanh`` layers, from memory (n, 128) to discrete actions (n,)."""

    arrays: Mapping[str, Array]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RamPolicy:
        """Build from ``obs_mean``, ``obs_scale`` (128,), ``w0``, ``b0``, ``w1``, ``b1``, ``w2``, ``b2``."""
        return cls({name: arrays[name].astype(np.float64) for name in SHAPES})

    @property
    def n_actions(self) -> int:
        """Number of discrete actions."""
        return len(self.arrays["b2"])

    def logits(self, ram: NDArray[np.uint8]) -> Array:
        """Unnormalised log-probabilities, float64 (n, actions)."""
        p = self.arrays
        h: Array = (ram.astype(np.float64) - p["obs_mean"]) * p["obs_scale"]
        np.clip(h, -CLIP, CLIP, out=h)
        for layer in range(3):
            h = h @ p[f"w{layer}"] + p[f"b{layer}"]
            if layer < 2:
                np.tanh(h, out=h)
        return h

    def act(
        self, ram: NDArray[np.uint8], rng: Sequence[np.random.Generator], temperature: float = 1.0, epsilon: float = 0.0
    ) -> NDArray[np.int64]:
        """Actions int64 (n,) for memory uint8 (n, 128), uniform with probability ``epsilon``. One ``rng`` a row."""
        draws = np.array([generator.random(DRAWS) for generator in rng])
        sampled = sample(self.logits(ram) / temperature, draws[:, 2])
        explored = (draws[:, 1] * self.n_actions).astype(np.int64)
        return np.where(draws[:, 0] < epsilon, explored, sampled)


def load(game: str, snapshot: str, folder: Path = PACK) -> RamPolicy:
    """The snapshot of that name, e.g. ``load("breakout", "expert")``. DataError if the pack has no such one."""
    path = folder / f"{game}.npz"
    if not path.is_file():
        raise DataError(f"no behaviour policies of {game!r} in {folder}; reinstall the package")
    arrays = read_snapshot(path, snapshot)
    if set(arrays) != set(SHAPES):
        raise DataError(f"no snapshot {snapshot!r} in {path}; reinstall the package")
    return RamPolicy.from_arrays(arrays)
