"""Gaussian behaviour policies in the package, in NumPy: a pack is one ``<environment>.npz`` beside ``manifest.json``.

Squashed ones (SAC) have a state-dependent spread and ``tanh`` at the end. Clipped ones (PPO) have one spread for all
states, and are clipped to the action range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backbench import reading
from backbench.benchmarks.data.policies.exact import on_grid

Array = NDArray[np.float64]

PACK = Path(__file__).parent / "pack"
LOG_STD_RANGE = (-20.0, 2.0)  # to which SAC's actor clips its spread


@dataclass(frozen=True)
class GaussianPolicy:
    """A behaviour policy from observations (n, obs) to actions (n, act) in [-1, 1]. It computes in float64."""

    arrays: Mapping[str, Array]
    squash: bool

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> GaussianPolicy:
        """Build from ``obs_mean``, ``obs_scale``, ``w0``, ``b0`` …, ``mean_w``, ``mean_b``, and either ``std_w``,
        ``std_b`` (squashed) or ``log_std`` (clipped)."""
        return cls({k: v.astype(np.float64) for k, v in arrays.items()}, squash="std_w" in arrays)

    def act(
        self, observations: NDArray[Any], rng: np.random.Generator | None = None, noise: float = 1.0
    ) -> NDArray[np.float32]:
        """Actions for a batch of observations, float32, multiples of 1/4096: the mode without ``rng``.

        ``noise`` scales the policy's own spread.
        """
        p = self.arrays
        h: Array = (observations.astype(np.float64) - p["obs_mean"]) * p["obs_scale"]
        np.clip(h, -10.0, 10.0, out=h)  # as VecNormalize. Unnormalised observations are far smaller
        for layer in range(sum(name[0] == "w" for name in p)):
            h = h @ p[f"w{layer}"] + p[f"b{layer}"]
            h = np.maximum(h, 0.0) if self.squash else np.tanh(h)
        action: Array = h @ p["mean_w"] + p["mean_b"]
        if rng is not None:
            log_std = np.clip(h @ p["std_w"] + p["std_b"], *LOG_STD_RANGE) if self.squash else p["log_std"]
            action = action + noise * np.exp(log_std) * rng.standard_normal(action.shape)
        return on_grid(np.tanh(action) if self.squash else np.clip(action, -1.0, 1.0)).astype(np.float32)


def manifest(folder: Path = PACK) -> dict[str, Any]:
    """The snapshots in the pack and how each was trained."""
    return cast("dict[str, Any]", reading.read_json(folder / "manifest.json"))


def load(environment: str, snapshot: str, folder: Path = PACK) -> GaussianPolicy:
    """The snapshot of that name, e.g. ``load("hopper", "expert")``. KeyError if there is none."""
    arrays = read_snapshot(folder / f"{environment}.npz", snapshot)
    if not arrays:
        raise KeyError(f"no snapshot {snapshot!r} in {environment}.npz")
    return GaussianPolicy.from_arrays(arrays)


def read_snapshot(path: Path, snapshot: str) -> dict[str, NDArray[Any]]:
    """The arrays of a snapshot by name. Empty if the file does not have it."""
    with np.load(path, allow_pickle=False) as pack:
        prefix = f"{snapshot}/"
        return {k.removeprefix(prefix): pack[k] for k in pack.files if k.startswith(prefix)}
