"""A complete grid of results, sizes x amounts x seeds, and intervals from a bootstrap over its seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backbench.errors import require
from backbench.leaderboard.scores.statistics import t_quantile

Floats = NDArray[np.float64]
LEAST = 3  # sizes, and amounts
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Grid:
    """Results of cells that differ in size, amount of data and seed."""

    sizes: Floats  # (sizes,) N, non-embedding parameters (``cost.parameters_backbone``), increasing
    amounts: Floats  # (amounts,) D, unique episodes, increasing
    values: Floats  # (seeds, sizes, amounts), losses or scores

    @classmethod
    def of(cls, sizes: Sequence[float], amounts: Sequence[float], values: ArrayLike) -> "Grid":
        """UserError: fewer than three sizes or amounts, or two seeds, a wrong order or shape, or a missing value."""
        made = cls(*(np.asarray(one, dtype=np.float64) for one in (sizes, amounts, values)))
        for name, axis in (("sizes", made.sizes), ("amounts of data", made.amounts)):
            require(len(axis) >= LEAST, f"{len(axis)} {name}: a study needs at least {LEAST}; add some")
            rising = bool((axis > 0).all() and (np.diff(axis) > 0).all() and np.isfinite(axis).all())
            require(rising, f"{name} {', '.join(f'{x:g}' for x in axis)}: give positive numbers, smallest first")
        shape = len(made.sizes), len(made.amounts)
        fits = made.values.ndim == 3 and made.values.shape[1:] == shape
        require(fits, f"values of shape {made.values.shape}: expected (seeds, {shape[0]}, {shape[1]}), a value a cell")
        require(
            len(made.values) >= 2, f"{len(made.values)} seed: a study needs at least 2 to tell how far seeds differ"
        )
        if not np.isfinite(made.values).all():
            seed, i, j = np.argwhere(~np.isfinite(made.values))[0]
            cell = f"seed {seed}, size {made.sizes[i]:,.0f}, {made.amounts[j]:,.0f} episodes"
            require(False, f"no value for {cell}: run that cell again, or leave out its size, amount or seed")
        return made

    @property
    def mean(self) -> Floats:
        """(sizes, amounts) mean over seeds."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def noise(self) -> float:
        """Median over cells of the standard deviation over seeds."""
        return float(np.median(self.values.std(axis=0, ddof=1)))

    def bootstrap(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """(resamples, …) ``statistic`` of the mean over resampled seeds, (sizes, amounts). Equal on every call.

        A seed is resampled with all its cells: they share data and weights, so their errors are not independent.
        """
        seeds = len(self.values)
        drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
        shares = (drawn[:, :, None] == np.arange(seeds)).mean(axis=1)  # of each seed in each resample
        different, which = np.unique(shares, axis=0, return_inverse=True)
        found = np.stack([statistic(np.tensordot(share, self.values, 1)) for share in different])
        return np.asarray(found[which.reshape(-1)])

    def interval(self, value: float, resampled: Floats) -> tuple[float, float]:
        """95 % interval around ``value`` from what the bootstrap made of it, (resamples,).

        The percentile interval is far too narrow for few seeds: of two seeds it holds the mean half of the time, of
        three in 75 %. So its ends are moved away from ``value`` by what makes it Student's interval for a mean of n
        normal values: sqrt(n/(n-1)) for the bootstrap's variance, and t over how many standard deviations the
        percentiles lie away, 1.96, or about sqrt(n) where n is small. That is 12.7 for two seeds, 3.0 for three.
        """
        seeds, upper = len(self.values), (1 + LEVEL) / 2
        away = min(NormalDist().inv_cdf(upper), math.sqrt(seeds))
        factor = math.sqrt(seeds / (seeds - 1)) * t_quantile(upper, seeds - 1) / away
        low, high = np.quantile(resampled, [1 - upper, upper])
        return float(value + factor * (low - value)), float(value + factor * (high - value))
