"""Point estimates and bootstrap intervals of normalised scores. NumPy only; equal input and seed give equal output.
Scores are arrays (runs, tasks) of normalised scores. Statistics take leading axes too. Point estimates are those of
Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv:2108.13264).
Intervals are percentile intervals of a bootstrap stratified by task: each task's runs are resampled among themselves.
Pooling runs over tasks would count the difference between tasks as noise. With few runs a nominal 95 % interval covers
less than 95 %, see ``COVERAGE``."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

# Statistic -> seeds -> how often its nominal 95 % interval held the true value in simulation, as printed by
# tools/interval_coverage.py. ``task``: the mean of a single task, from three seeds simply smallest to largest.
COVERAGE: dict[str, dict[int, float]] = {
    "task": {3: 0.75, 5: 0.82, 10: 0.90},
    "mean": {3: 0.86, 5: 0.91, 10: 0.93},
    "iqm": {3: 0.85, 5: 0.91, 10: 0.92},
}


# Numbers of seeds -> the same of ``paired_difference`` over nine tasks with ten starts, by the same tool. One
# seed: the interval is over starts only.
PAIRED_COVERAGE: dict[int, float] = {1: 0.66, 3: 0.95, 5: 0.96, 10: 0.96}


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in normalised scores."""

    low: float
    high: float
    # What varies. Episodes or starts alone: without the noise of training.
    over: Literal["seeds", "episodes", "starts", "seeds and starts"]
    n: int  # Number of seeds where they vary, else of episodes or starts (the smallest of any task).
    method: Literal["bootstrap", "wilson"] = "bootstrap"  # Percentiles of a bootstrap, or Wilson's of a rate.


@dataclass(frozen=True)
class Estimate:
    """A point estimate, with its interval if there are enough runs or episodes."""

    value: float
    interval: Interval | None


def mean(scores: Floats) -> Floats:
    """Mean over tasks of the task's mean over runs."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: Floats) -> Floats:
    """Median over tasks of the task's mean over runs."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def iqm(scores: Floats) -> Floats:
    """Interquartile mean over all runs of all tasks, without a quarter (rounded down) at each end."""
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: Floats) -> Floats:
    """Mean shortfall of runs from a score of 100, in units of 100. Higher scores count as 100."""
    return np.asarray(1.0 - np.minimum(scores / 100.0, 1.0).mean(axis=(-2, -1)))


def stratified_bootstrap(
    scores: ArrayLike, statistic: Statistic, rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """(low, high) of ``statistic`` over runs that are resampled with replacement within each task.
    ``scores``: (runs, tasks), at least two runs, finite; ``ValueError`` otherwise. ``level``: the nominal coverage."""
    matrix = _matrix(scores)
    return _percentiles(statistic(_within_tasks(matrix, rng, resamples)), level)


def estimate(
    scores: ArrayLike,
    statistic: Statistic = mean,
    *,
    episodes: Sequence[ArrayLike] = (),
    seed: int = 0,
    resamples: int = 2000,
) -> Estimate:
    """``statistic`` of (runs, tasks) with its 95 % interval: over seeds, or with one run over each task's ``episodes``.
    The latter holds the noise of the evaluation alone. Each call seeds its own generator: a new row in a table changes
    no other interval. Raises ``ValueError`` for empty scores, a task without episodes, NaN and infinities."""
    matrix = _matrix(scores)
    rng = np.random.default_rng(seed)
    value = float(statistic(matrix))
    if len(matrix) > 1:
        ends = _percentiles(statistic(_resampled_within_tasks(matrix.tobytes(), matrix.shape, seed, resamples)))
        return Estimate(value, Interval(*ends, "seeds", len(matrix)))
    fewest = min((len(np.asarray(task)) for task in episodes), default=0)
    if fewest < 2:
        return Estimate(value, None)
    columns = []
    for task in episodes:
        values = _matrix(np.asarray(task, dtype=np.float64)[:, None])[:, 0]
        columns.append(values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1))
    # A run of a task is the mean of its episodes, so each resample is one run.
    ends = _percentiles(statistic(np.stack(columns, axis=-1)[:, None, :]))
    return Estimate(value, Interval(*ends, "episodes", fewest))


def interval(values: ArrayLike, episodes: ArrayLike | None = None) -> Interval | None:
    """Interval of the mean of one task's ``values``, one per seed; with a single seed that of its ``episodes``."""
    runs = np.asarray(values, dtype=np.float64)[:, None]
    return estimate(runs, episodes=() if episodes is None else (episodes,)).interval


def paired_difference(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Mean of ``x`` minus mean of ``y``, (runs, tasks, starts) each, where both played start i of a task: mean over
    tasks of the mean over starts of (mean over runs of x) - (mean over runs of y).
    The 95 % bootstrap interval resamples each task's runs, of ``x`` and ``y`` apart, and its starts, the same ones for
    both (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1). With one run of either it resamples
    starts only. A single start has no interval. Raises ``ValueError`` for different tasks or starts, and for what is
    not finite."""
    sides = [np.asarray(side, dtype=np.float64) for side in (x, y)]
    if any(side.ndim != 3 or side.size == 0 for side in sides) or sides[0].shape[1:] != sides[1].shape[1:]:
        raise ValueError(f"no common tasks and starts: {sides[0].shape} and {sides[1].shape}, (runs, tasks, starts)")
    if not all(np.isfinite(side).all() for side in sides):
        raise ValueError("scores hold NaN or infinities; a failed run is no score")
    value, (fewest, starts) = float(sides[0].mean() - sides[1].mean()), (min(map(len, sides)), sides[0].shape[2])
    if starts < 2:
        return Estimate(value, None)
    streams = (0, 1) if fewest > 1 else (None, None)
    means = [_resampled(side.tobytes(), side.shape, stream) for side, stream in zip(sides, streams, strict=True)]
    low, high = _percentiles(means[0] - means[1])
    return Estimate(value, Interval(low, high, *(("seeds and starts", fewest) if fewest > 1 else ("starts", starts))))


@lru_cache(maxsize=128)  # a row of a table is a side of many pairs
def _resampled(scores: bytes, shape: tuple[int, int, int], stream: int | None) -> Floats:
    """(resamples,) means over tasks and resampled starts, equal ones in every call, of (runs, tasks, starts).
    ``stream``: which samples of runs; None takes the runs as they are."""
    runs, tasks, starts = shape
    weights = _weights(starts, tasks, 2).transpose(2, 0, 1)  # (tasks, resamples, starts)
    by_task = np.frombuffer(scores).reshape(shape).transpose(1, 0, 2)
    if stream is None:
        drawn = by_task.mean(axis=1)[:, None, :]
    else:
        drawn = _weights(runs, tasks, stream).transpose(2, 0, 1) @ by_task
    return np.asarray((drawn * weights).sum(axis=-1).mean(axis=0))


def performance_profile(scores: ArrayLike, taus: ArrayLike) -> Floats:
    """Share of runs with a score above each of ``taus``: (runs, tasks) and (k,) to (k,), from 0 to 1.
    The score distribution of Agarwal et al. 2021: the mean over tasks of each task's share of runs."""
    return np.asarray((_matrix(scores)[..., None] > np.asarray(taus, dtype=np.float64)).mean(axis=(0, 1)))


def profile_interval(scores: ArrayLike, taus: ArrayLike, resamples: int = 2000) -> tuple[Floats, Floats]:
    """(low, high) of ``performance_profile`` at each of ``taus``, (k,) each: pointwise 95 %, stratified by task.
    Raises ``ValueError`` for a single run, which has no spread over runs."""
    matrix = _matrix(scores)
    above = (matrix[..., None] > np.asarray(taus, dtype=np.float64)).reshape(matrix.size, -1)
    shares = _weights(*matrix.shape, 0, resamples).reshape(resamples, -1) @ above / matrix.shape[1]
    low, high = np.quantile(shares, [(1 - 0.95) / 2, (1 + 0.95) / 2], axis=0)
    return low, high


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Mean over tasks of the share of pairs of runs in which ``x`` scores more than ``y``: (runs, tasks) each.
    A tie is half a win: the Mann-Whitney U statistic over the number of pairs (Agarwal et al. 2021). Raises
    ``ValueError`` for different numbers of tasks."""
    return float(_wins(x, y).mean())


def improvement_interval(x: ArrayLike, y: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """(low, high) of ``probability_of_improvement``: runs of ``x`` and ``y`` are resampled apart, within each task.
    None if one of the two has a single run. The samples depend on the numbers of runs and tasks only."""
    wins = _wins(x, y)
    tasks, ours, theirs = wins.shape
    if min(ours, theirs) < 2:
        return None
    first, second = (_weights(runs, tasks, i).transpose(2, 0, 1) for i, runs in enumerate((ours, theirs)))
    return _percentiles(((first @ wins) * second).sum(axis=-1).mean(axis=0), level)


def difference_interval(
    x: ArrayLike, y: ArrayLike, level: float, least: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """(low, high) of mean(y) - mean(x) for independent samples (n,) and (m,), two values or more each.
    Welch's interval with the Welch-Satterthwaite degrees of freedom: samples may spread unequally. ``least``: the
    smallest standard deviations that ``x`` and ``y`` are taken to have."""
    one, other = _matrix(np.asarray(x)[:, None])[:, 0], _matrix(np.asarray(y)[:, None])[:, 0]
    sides = zip((one, other), least, strict=True)
    spreads = [max(float(side.var(ddof=1)), bound**2) / len(side) for side, bound in sides]
    total = sum(spreads)
    if total == 0:
        reach = 0.0
    else:
        parts = ((spread / total) ** 2 / (len(side) - 1) for spread, side in zip(spreads, (one, other), strict=True))
        reach = t_quantile((1 + level) / 2, 1 / sum(parts)) * total**0.5
    difference = float(other.mean() - one.mean())
    return difference - reach, difference + reach


def t_quantile(share: float, freedom: float) -> float:
    """The value below which ``share`` of Student's t distribution lies, for at least one degree of freedom.
    With t = sqrt(n) tan(a) the density is proportional to cos(a)^(n - 1). It is summed over v with a = (1 - v^3) pi/2,
    which makes it smooth at the far end."""
    if share < 0.5:
        return -t_quantile(1 - share, freedom)
    v = np.linspace(1.0, 0.0, 10_001)
    rest = np.pi / 2 * v**3
    density = np.sin(rest) ** (freedom - 1) * v**2
    half = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = np.pi / 2 - np.interp(2 * share - 1, half / half[-1], rest)
    return float(np.sqrt(freedom) * np.tan(angle))


def rate_interval(values: ArrayLike, ends: tuple[float, float]) -> Interval:
    """Wilson's interval of the mean of ``values``, one run's episodes, each of which scores one of the two ``ends``."""
    scores = np.asarray(values, dtype=np.float64)
    rates = wilson_interval(int((scores == max(ends)).sum()), len(scores))
    low, high = (min(ends) + rate * (max(ends) - min(ends)) for rate in rates)
    return Interval(low, high, "episodes", len(scores), "wilson")


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """(low, high) of a rate of successes, from 0 to 1 (Wilson 1927). Unlike a bootstrap it has a width at 0 and 1."""
    z, rate = NormalDist().inv_cdf((1 + level) / 2), successes / trials
    centre, scale = rate + z**2 / (2 * trials), 1 + z**2 / trials
    reach = z * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def _matrix(scores: ArrayLike) -> Floats:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"scores have the shape (runs, tasks), neither empty; got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("scores hold NaN or infinities; a failed run is no score")
    return matrix


def _wins(x: ArrayLike, y: ArrayLike) -> Floats:
    """(tasks, runs of x, runs of y): 1 where x scores more, 0.5 where both score the same."""
    one, other = _matrix(x), _matrix(y)
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"scores of {one.shape[1]} tasks do not compare with scores of {other.shape[1]} tasks")
    left, right = one.T[:, :, None], other.T[:, None, :]
    return np.asarray((left > right) + 0.5 * (left == right))


@lru_cache(maxsize=8)  # every row of a table, and every pair of rows, has the same shape
def _weights(runs: int, tasks: int, stream: int, resamples: int = 2000) -> Floats:
    """(resamples, runs, tasks): share of a task's samples that each run has; they sum to 1 over runs."""
    drawn = _draw(np.random.default_rng([0, stream]), (runs, tasks), resamples)
    cells = (np.arange(resamples)[:, None, None] * runs + drawn) * tasks + np.arange(tasks)
    weights = np.bincount(cells.ravel(), minlength=resamples * runs * tasks).reshape(resamples, runs, tasks) / runs
    weights.flags.writeable = False
    return weights


def _within_tasks(matrix: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """(resamples, runs, tasks): runs of (runs, tasks), drawn with replacement within each task."""
    return np.take_along_axis(matrix[None], _draw(rng, matrix.shape, resamples), axis=1)


@lru_cache(maxsize=1)  # a row has many statistics
def _resampled_within_tasks(scores: bytes, shape: tuple[int, int], seed: int, resamples: int) -> Floats:
    found = _within_tasks(np.frombuffer(scores).reshape(shape), np.random.default_rng(seed), resamples)
    found.flags.writeable = False
    return found


def _draw(rng: np.random.Generator, shape: tuple[int, ...], resamples: int) -> NDArray[np.int64]:
    """(resamples, runs, tasks) indices of runs; ``shape``: (runs, tasks)."""
    if shape[0] < 2:
        raise ValueError("one run has no spread over runs; resample its episodes instead")
    return rng.integers(shape[0], size=(resamples, *shape))


def _percentiles(values: Floats, level: float = 0.95) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
