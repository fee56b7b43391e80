"""What twice the data and what twice the model change, without any law."""

from dataclasses import dataclass

import numpy as np

from backbench.benchmarks.studies.grid import Floats, Grid
from backbench.errors import require


@dataclass(frozen=True)
class Gain:
    """Relative change of a loss or score by a doubling, -0.1 for 10 % less, with its 95 % interval."""

    change: float
    low: float
    high: float


def gains(grid: Grid) -> dict[str, Gain]:
    """The gain from twice the ``data`` and from twice the ``model``, over all pairs of neighbouring cells.

    The sum of changes per doubling over the sum of the smaller cells' values: single values near zero do no harm.
    UserError if a mean over seeds is so small that a relative change has no meaning.
    """
    axes = {"data": (1, np.log2(grid.amounts)), "model": (0, np.log2(grid.sizes))}
    found = {}
    for name, (axis, doublings) in axes.items():
        steps = np.diff(doublings)

        def change(mean: Floats, axis: int = axis, steps: Floats = steps) -> Floats:
            pairs = np.diff(mean, axis=axis) / np.expand_dims(steps, 1 - axis)
            return np.asarray(pairs.sum() / np.delete(mean, -1, axis=axis).sum())

        base = float(np.delete(grid.mean, -1, axis=axis).mean())
        require(base > grid.noise, f"the mean of the values is {base:.3g}: a relative change of it has no meaning")
        value = float(change(grid.mean))
        low, high = grid.interval(value, grid.bootstrap(change))
        found[name] = Gain(value, low, high)
    return found
