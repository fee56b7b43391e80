"""Arithmetic of behaviour policies that gives the same data on every x86-64 processor with AVX2 and FMA.

BLAS kernels and NumPy's exp and tanh depend on the processor: their results differ in the last digits. A simulator
turns such a difference into another episode. So policies compute in float64, and what leaves them is rounded to a grid.
An error of about 1e-15 crosses a rounding boundary of a grid of 2^-12 once in some 10^11 numbers. A data set has at
most 10^6.
"""

from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

GRID = 4096  # parts of a unit that an action, and a logit, are multiples of
DRAW_BITS = 32  # of a random number that chooses an action
WEIGHT_BITS = 26  # of the weight of the likeliest action. With 18 actions, weight x draw stays below 2^63
FARTHEST = 20 * GRID  # logits below the best one whose weight rounds to 0: exp(-20) < 2^-27


def on_grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest multiples of 1/4096, halves to even. Values below 2^11 are then exact in float32 as well."""
    rounded: NDArray[np.float64] = np.rint(values * GRID) / GRID
    return rounded


def sample(logits: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Actions (n,) from softmax of ``logits`` (n, actions), with uniform ``draws`` (n,) in [0, 1).

    Integers only, once the logits are on the grid: weights come from a table of exp, rounded to integers.
    """
    steps = np.rint(logits * GRID).astype(np.int64)
    weights = _weights()[np.minimum(steps.max(axis=1, keepdims=True) - steps, FARTHEST)]
    shares = np.cumsum(weights, axis=1)
    drawn = (draws * 2**DRAW_BITS).astype(np.int64)[:, None]  # a power of two: exact
    chosen: NDArray[np.int64] = (drawn * shares[:, -1:] >= shares << DRAW_BITS).sum(axis=1)
    return chosen


@cache
def _weights() -> NDArray[np.int64]:
    """round(2^26 exp(-i / 4096)) for i up to ``FARTHEST``, by exact rational arithmetic."""
    scale, places = 2**WEIGHT_BITS, 2**160
    term, total, i = Fraction(1), Fraction(0), 0
    while term > Fraction(1, places):  # the series of exp(1 / 4096)
        total, i = total + term, i + 1
        term /= i * GRID
    step = int(places / total)  # exp(-1 / 4096) in units of 2^-160
    table, value = [], places
    for _ in range(FARTHEST + 1):
        table.append((value * scale + places // 2) // places)
        value = value * step // places
    return np.array(table, dtype=np.int64)
