"""Made-up behaviour policies on the console's memory."""

from __future__ import annotations

import numpy as np


def made_up(actions: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float16 arrays of a policy."""
    rng = np.random.default_rng(seed)
    shapes = {"w0": (128, 16), "b0": (16,), "w1": (16, 16), "b1": (16,), "w2": (16, actions), "b2": (actions,)}
    arrays = {name: rng.normal(0, 0.5, shape) for name, shape in shapes.items()}
    arrays |= {"obs_mean": rng.uniform(0, 255, 128), "obs_scale": rng.uniform(0.01, 0.2, 128)}
    return {name: array.astype(np.float16) for name, array in arrays.items()}
