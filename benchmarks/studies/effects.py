"""How large a difference is, and how large it must be to be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from backbench.benchmarks.studies.study import CONTRADICTED, OPEN, SUPPORTED, Part
from backbench.leaderboard.scores.statistics import Estimate, Interval, t_quantile
from backbench.text import count

# Standard deviation of a score between seeds of one row and task, in normalised points: pooled over the 54 rows and
# tasks of the published board of suite d4rl.
SPREAD = 10.0
POWER = 0.8

Scores = Mapping[str, Mapping[int, float]]  # task -> seed -> score


def smallest(parts: Sequence[Part]) -> str:
    """The smallest difference of two arms that a study is likely to detect, in a sentence."""
    runs = sum(len(part.tasks) * len(part.seeds) for part in parts)
    normal = NormalDist()
    reach = (normal.inv_cdf(0.975) + normal.inv_cdf(POWER)) * SPREAD * math.sqrt(2 / runs)
    return (
        f"Smallest effect: a true difference of {reach:.0f} points in the mean of {count(runs, 'run')} is found at "
        f"95 % in {POWER:.0%} of such studies, if seeds spread by {SPREAD:g} points, as on the published board. "
        "Smaller ones mostly stay open."
    )


def difference(x: Scores, y: Scores, level: float = 0.95) -> Estimate | None:
    """Mean over the tasks that both have of mean(x) - mean(y) over seeds, with its interval.

    The tasks are fixed: the interval says nothing about other tasks. Variances are pooled over tasks, separately for
    ``x`` and ``y``, and Welch's interval follows. None without a common task; no interval where no task has two seeds.
    """
    tasks = [task for task in x if task in y]
    if not tasks:
        return None
    sides = [[np.array(list(side[task].values())) for task in tasks] for side in (x, y)]
    means = [np.mean([values.mean() for values in side]) for side in sides]
    value = float(means[0] - means[1])
    parts = []  # variance of the side's mean, and degrees of freedom
    for side in sides:
        freedom = sum(len(values) - 1 for values in side)
        if freedom == 0:
            return Estimate(value, None)
        pooled = sum(float(((values - values.mean()) ** 2).sum()) for values in side) / freedom
        parts.append((pooled * sum(1 / len(values) for values in side) / len(tasks) ** 2, freedom))
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return Estimate(value, Interval(value, value, "seeds", min(freedom for _, freedom in parts) + 1))
    welch = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    reach = t_quantile((1 + level) / 2, max(1.0, welch)) * math.sqrt(total)
    fewest = min(len(values) for side in sides for values in side)
    return Estimate(value, Interval(value - reach, value + reach, "seeds", fewest))


def verdict(differences: Sequence[Estimate | None]) -> str:
    """Of a claim that all ``differences`` are positive: supported if all are, contradicted if one is negative."""
    ends = [None if one is None or one.interval is None else one.interval for one in differences]
    if any(one is not None and one.high < 0 for one in ends):
        return CONTRADICTED
    return SUPPORTED if ends and all(one is not None and one.low > 0 for one in ends) else OPEN


def said(one: Estimate | None, digits: int = 1) -> str:
    """``+2.1 (-0.4, +4.6)``."""
    if one is None:
        return "no common task"
    if one.interval is None:
        return f"{one.value:+.{digits}f} (one seed: no interval)"
    return f"{one.value:+.{digits}f} ({one.interval.low:+.{digits}f}, {one.interval.high:+.{digits}f})"
