"""A scaling law, L - E = A N^-a + B D^-b, fitted to the losses of a grid of cells.

N is the number of non-embedding parameters, D that of unique episodes, E the loss of the ideal predictor.

For given exponents the best A, B >= 0, and E where it is unknown, are linear least squares in closed form (variable
projection). So only a and b are searched, on a grid that is refined around its best point: no start decides. Parabolas
through cells of equal compute are biased (arXiv:2603.22339).

Errors are weighted by 1/(fitted excess + s)^2. Usual fits take log(L - E), which is undefined where noise or luck
brings a loss to E, and large errors of log there would decide the fit. These weights are those of the log where L - E
is far above s, the typical spread of seeds, and stay finite below. They come from the fit before, in a few rounds:
weights of the losses themselves would favour those that are low by luck.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from backbench.benchmarks.studies.grid import Floats, Grid
from backbench.errors import require

LOWEST, HIGHEST = 0.01, 3.0  # exponents that are searched
FLAT, STEEP = 0.02, 2.97  # and those that count as the ends: 0.02 is 1.4 % of the excess for a doubling
POINTS, LEVELS, AROUND = 21, 12, 3  # of the search: points an axis, refinements, and points kept around the best
ROUNDS = 4  # of weights
MISS = 1e-3  # relative error of a prediction that is no miss, however little seeds differ


class Fit(NamedTuple):
    """The law's five numbers. An exponent is 0 where its factor is 0: that term is not there."""

    a: float
    b: float
    A: float
    B: float
    E: float

    def excess(self, sizes: Floats, amounts: Floats) -> Floats:
        """(sizes, amounts) L - E."""
        term: Floats = (self.A * sizes**-self.a)[:, None] + self.B * amounts**-self.b
        return term


@dataclass(frozen=True)
class Prediction:
    """The loss of the largest model on most data, from a fit without the largest sizes and amounts."""

    size: float
    amount: float
    measured: float  # mean over seeds
    predicted: float
    low: float  # 95 % interval of what the law allows to be measured
    high: float

    @property
    def missed(self) -> bool:
        """Whether the measured loss lies outside."""
        slack = MISS * abs(self.measured)
        return not self.low - slack <= self.measured <= self.high + slack


@dataclass(frozen=True)
class Law:
    """A fit with 95 % intervals, and what speaks against it."""

    fit: Fit
    intervals: dict[str, tuple[float, float]]  # of a, b, A, B, E
    prediction: Prediction

    @property
    def doubts(self) -> list[str]:
        """Why there is no law; empty if there is one."""
        found = []
        for name, of in (("a", "the size of the model"), ("b", "the amount of data")):
            low, high = self.intervals[name]
            if low <= FLAT:
                found.append(f"{name}, of {of}, may be 0 ({low:.2f} to {high:.2f})")
            elif high >= STEEP:
                found.append(f"{name}, of {of}, has no upper end ({low:.2f} to {high:.2f})")
        if (p := self.prediction).missed:
            found.append(f"{p.measured:.4g} measured, and {p.low:.4g} to {p.high:.4g} predicted for the largest cell")
        return found

    @property
    def verdict(self) -> str:
        """``law`` or ``no law``."""
        return "no law" if self.doubts else "law"


def fit_law(grid: Grid, ideal: float | None = None) -> Law:
    """Fit the law to a grid of losses, with E = ``ideal``, or with E from 0 to the smallest loss if that is None.

    UserError for losses that are not positive, or an ``ideal`` that most cells are below.
    """
    mean = grid.mean
    require(bool((mean > 0).all()), f"a loss of {mean.min():.4g}: give positive losses, or losses minus a constant")
    most = float(np.median(mean)) + 3 * grid.noise  # cells without any excess are a result, not a mistake
    above = ideal is None or 0 <= ideal <= most
    require(above, f"ideal loss {ideal}: most cells have a smaller loss; it is of other episodes or another layout")
    every = np.ones(mean.shape)
    fit, weights = _weighted(grid, mean, every, ideal)
    resampled = grid.bootstrap(lambda losses: np.array(_search(grid, losses, weights, ideal)))
    intervals = {}
    for name, value, draws in zip(Fit._fields, fit, resampled.T, strict=True):
        if name in "AB":  # they span powers of ten
            tiny = np.finfo(float).tiny
            with np.errstate(over="ignore"):
                ends = np.exp(grid.interval(np.log(max(value, tiny)), np.log(np.maximum(draws, tiny))))
            intervals[name] = float(ends[0]), float(ends[1])
        else:
            low, high = grid.interval(value, draws)
            intervals[name] = max(0.0, low), high
    return Law(fit, intervals, _predict(grid, ideal))


def _predict(grid: Grid, ideal: float | None) -> Prediction:
    """Fit without the largest cell and, where four sizes or amounts are there, without all cells of the largest."""
    kept = np.ones(grid.mean.shape)
    kept[-1, -1] = 0
    if len(grid.sizes) > 3:
        kept[-1] = 0
    if len(grid.amounts) > 3:
        kept[:, -1] = 0
    measured = float(grid.mean[-1, -1])
    fit, weights = _weighted(grid, grid.mean, kept, ideal)

    def predicted(one: Fit) -> float:
        return float(one.E + one.excess(grid.sizes, grid.amounts)[-1, -1])

    # The measured loss varies with the seeds too, and together with the fit.
    errors = grid.bootstrap(lambda losses: np.array(losses[-1, -1] - predicted(_search(grid, losses, weights, ideal))))
    value = predicted(fit)
    low, high = grid.interval(measured - value, errors)
    reach = low - (measured - value), high - (measured - value)
    largest = float(grid.sizes[-1]), float(grid.amounts[-1])
    return Prediction(*largest, measured, value, value + reach[0], value + reach[1])


def _weighted(grid: Grid, losses: Floats, kept: Floats, ideal: float | None) -> tuple[Fit, Floats]:
    """A fit to the cells where ``kept`` is 1, and its weights, each from the other in turn."""
    weights = kept
    floor = max(grid.noise, 1e-6 * float(losses.mean()))
    for _ in range(ROUNDS):
        fit = _search(grid, losses, weights, ideal)
        weights = kept / (fit.excess(grid.sizes, grid.amounts) + floor) ** 2
    return _search(grid, losses, weights, ideal), weights


def _search(grid: Grid, losses: Floats, weights: Floats, ideal: float | None) -> Fit:
    """The best fit: its exponents are on a grid that shrinks around its best point."""
    # Sizes and amounts around 1 keep the sums well scaled.
    middle = [float(np.exp(np.log(axis).mean())) for axis in (grid.sizes, grid.amounts)]
    n, d = grid.sizes / middle[0], grid.amounts / middle[1]
    ends = (0.0, float(losses[weights > 0].min())) if ideal is None else (ideal, ideal)
    a = b = np.linspace(LOWEST, HIGHEST, POINTS)
    for _ in range(LEVELS):
        errors, *factors = _project(losses, weights, n ** -a[:, None], d ** -b[:, None], ends)
        i, j = (int(one) for one in np.unravel_index(int(errors.argmin()), errors.shape))
        power, decay = float(a[i]), float(b[j])
        a, b = _around(a, i), _around(b, j)
    A, B, E = (float(one[i, j]) for one in factors)
    return Fit(power if A > 0 else 0.0, decay if B > 0 else 0.0, A * middle[0] ** power, B * middle[1] ** decay, E)


def _around(axis: Floats, best: int) -> Floats:
    """As many points between neighbours of the best one."""
    low, high = axis[max(0, best - AROUND)], axis[min(len(axis) - 1, best + AROUND)]
    return np.linspace(low, high, len(axis))


def _project(losses: Floats, weights: Floats, u: Floats, v: Floats, ends: tuple[float, float]) -> tuple[Floats, ...]:
    """Weighted squared error, A, B and E, (a, b) each: the best with A, B >= 0 and E between the ``ends``.

    ``u`` (a, sizes) and ``v`` (b, amounts) are the columns of A and B. The error is convex in E. So the best E is that
    of a free constant, which centred columns give, or the end that is nearer to it.
    """
    rows, columns, total = weights.sum(1), weights.sum(0), weights.sum()
    of_u, of_v, of_y = (u @ rows)[:, None], v @ columns, (weights * losses).sum()
    uu, vv, uv = (u**2 @ rows)[:, None], v**2 @ columns, u @ weights @ v.T
    uy, vy = (u @ (weights * losses).sum(1))[:, None], v @ (weights * losses).sum(0)
    A, B = _two_columns(
        uu - of_u**2 / total, vv - of_v**2 / total, uv - of_u * of_v / total,
        uy - of_u * of_y / total, vy - of_v * of_y / total,
    )  # fmt: skip
    E = np.clip((of_y - A * of_u - B * of_v) / total, *ends)
    uy, vy = uy - E * of_u, vy - E * of_v
    A, B = _two_columns(uu, vv, uv, uy, vy)
    yy = (weights * losses**2).sum() - 2 * E * of_y + E**2 * total
    return yy - 2 * (A * uy + B * vy) + A**2 * uu + B**2 * vv + 2 * A * B * uv, A, B, E


def _two_columns(uu: Floats, vv: Floats, uv: Floats, uy: Floats, vy: Floats) -> tuple[Floats, Floats]:
    """A, B >= 0 with the least squared error of y - A u - B v, from the products of the columns, (a, b) together."""
    determinant = uu * vv - uv**2
    regular = determinant > 1e-12 * uu * vv
    determinant = np.where(regular, determinant, 1.0)
    A, B = (uy * vv - vy * uv) / determinant, (vy * uu - uy * uv) / determinant
    inside = regular & (A >= 0) & (B >= 0)
    only_a, only_b = np.maximum(uy, 0) / uu + 0 * vy, np.maximum(vy, 0) / vv + 0 * uy
    first = only_a * uy >= only_b * vy  # which of the two alone leaves less
    return np.where(inside, A, np.where(first, only_a, 0.0)), np.where(inside, B, np.where(first, 0.0, only_b))
