"""Analyses over the rows of one section: profiles, comparisons of pairs, Pareto fronts.
Only rows with an aggregate take part: a row that lacks a task or a common seed has no matrix of seeds x tasks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from typing import Any

import numpy as np

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.board import Section
from backbench.leaderboard.board.groups import together
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores import statistics

POINTS_OF_PROFILE = 51
ALIKE = 0.05  # of the smaller cost: two equal runs on a shared machine may differ by as much


SURE = 0.99  # level at which differences on all single tasks hold together


@dataclass(frozen=True)
class DecidedTask:
    """Row ``better`` scores more than row ``worse`` on a task."""

    task: str
    better: int  # Index of a row of the section.
    worse: int
    low: float  # Ends of the corrected interval of the difference.
    high: float


@dataclass(frozen=True)
class Profile:
    """Share of a row's runs (seeds x tasks) with a score above each tau."""

    tau: tuple[float, ...]  # Normalised scores; the same for all rows of a section.
    share: tuple[float, ...]  # From 0 to 1, one per tau.
    low: tuple[float, ...] | None  # Ends of the pointwise 95 % bootstrap interval over seeds; None for a single seed.
    high: tuple[float, ...] | None


@dataclass(frozen=True)
class Improvement:
    """How probable it is that a run of row ``x`` scores more than one of row ``y`` on the same task."""

    x: int  # Index of a row of the section.
    y: int
    probability: float  # From 0 to 1; 0.5 where neither is better.
    low: float | None  # Ends of the 95 % bootstrap interval over seeds; None where a row has a single seed.
    high: float | None

    @property
    def decided(self) -> bool:
        """Whether the whole interval is above one half."""
        return self.low is not None and self.low > 0.5


@dataclass(frozen=True)
class Paired:
    """How much more row ``x`` scores than row ``y`` from the same starts."""

    x: int  # Index of a row of the section.
    y: int
    difference: float  # Mean over tasks, in normalised scores.
    low: float | None  # Ends of the 95 % bootstrap interval; None for a single start.
    high: float | None
    over: str | None  # What was resampled: ``seeds and starts``, or ``starts`` where a row has a single seed.

    @property
    def decided(self) -> bool:
        """Whether the whole interval, with the noise of training in it, is above zero."""
        return self.low is not None and self.low > 0 and self.over != "starts"


def profiles(section: Section) -> dict[int, Profile]:
    """Index of a row -> its performance profile, over one range of scores for all of them."""
    matrices, found = _matrices(section), {}
    # From random play to the reference at least, so that profiles of two sections are read alike.
    lowest = min((math.floor(matrix.min()) for matrix in matrices.values()), default=0)
    highest = max((math.ceil(matrix.max()) for matrix in matrices.values()), default=100)
    taus = np.linspace(min(0.0, lowest), max(100.0, highest), POINTS_OF_PROFILE)
    for index, matrix in matrices.items():
        ends = statistics.profile_interval(matrix, taus) if len(matrix) > 1 else (None, None)
        low, high = (None if end is None else tuple(map(float, end)) for end in ends)
        share = statistics.performance_profile(matrix, taus)
        found[index] = Profile(tuple(map(float, taus)), tuple(map(float, share)), low, high)
    return found


def improvements(section: Section, fewest_seeds: int = 1) -> list[Improvement]:
    """Every ordered pair of rows that have all tasks with at least ``fewest_seeds`` seeds, in the order of rows."""
    matrices = {index: matrix for index, matrix in _matrices(section).items() if len(matrix) >= fewest_seeds}
    found = []
    for x, y in combinations(matrices, 2):
        probability = statistics.probability_of_improvement(matrices[x], matrices[y])
        low, high = statistics.improvement_interval(matrices[x], matrices[y]) or (None, None)
        found.append(Improvement(x, y, probability, low, high))
        # Derived, not resampled: the two directions cannot contradict each other.
        turned = [None if end is None else 1.0 - end for end in (high, low)]
        found.append(Improvement(y, x, 1.0 - probability, *turned))
    return sorted(found, key=attrgetter("x", "y"))


def paired_differences(section: Section) -> list[Paired]:
    """Every ordered pair of rows that have all tasks and played the same starts, in the order of rows.
    The rows of a section share the evaluation seed and the environments, so equal counts of episodes are equal starts.
    """
    played = {index: row.played for index, row in enumerate(section.rows) if row.matrix}
    counts = {index: {tuple(map(len, tasks)) for tasks in one} for index, one in played.items()}
    found = []
    for x, y in combinations(played, 2):
        if len(episodes := counts[x] | counts[y]) > 1 or len(set(next(iter(episodes)))) > 1:
            continue
        one = statistics.paired_difference(played[x], played[y])
        # Rounded: where two rows are alike, the last bits of a difference of sums depend on the machine.
        low, high = (round(one.interval.low, 9), round(one.interval.high, 9)) if one.interval else (None, None)
        up, down = (None if end is None else -end for end in (high, low))
        difference, over = round(one.value, 9), one.interval.over if one.interval else None
        found += [Paired(x, y, difference, low, high, over), Paired(y, x, -difference, up, down, over)]
    return sorted(found, key=attrgetter("x", "y"))


def decided_tasks(section: Section) -> tuple[list[DecidedTask], int]:
    """The pairs of rows that differ on a single task, and how many comparisons were made.
    Welch's interval over seeds, of two seeds or more each, at 99 % after Bonferroni's correction for all comparisons.
    Where returns are shares, equal seeds may hide what their starts leave open, so a seed's standard deviation is taken
    to be at least the standard error over its own episodes."""
    rows = [(index, row.scores) for index, row in enumerate(section.rows)]
    pairs = [
        (task, x, one[task], y, other[task])
        for task in section.tasks
        for (x, one), (y, other) in combinations(rows, 2)
        if task in one and task in other and min(len(one[task].seeds), len(other[task].seeds)) > 1
    ]
    level, found = 1 - (1 - SURE) / max(len(pairs), 1), []
    for task, x, ours, y, theirs in pairs:
        low, high = statistics.difference_interval(theirs.values, ours.values, level, (theirs.error, ours.error))
        if low > 0 or high < 0:
            found.append(DecidedTask(task, *((x, y, low, high) if low > 0 else (y, x, -high, -low))))
    return found, len(pairs)


def fronts(section: Section) -> dict[str, list[int]]:
    """Key of a cost -> indices of the rows on its Pareto front: no other row is as good in IQM and cost and better in
    one of them. Rows without an IQM or without that cost take no part. Empty for ``undecided_costs``."""
    noise, found = undecided_costs(section), {}
    for column in columns.COSTS:
        sign = 1 if column.larger_is_better else -1
        points = {
            index: (row.iqm.value, sign * row.cost[column.key])
            for index, row in enumerate(section.rows)
            if row.iqm is not None and column.key in row.cost and column.key not in noise
        }
        found[column.key] = [
            index
            for index, own in points.items()
            if not any(one[0] >= own[0] and one[1] >= own[1] and one != own for one in points.values())
        ]
    return found


def unknown_costs(section: Section) -> dict[str, list[int]]:
    """Key of a cost that is counted -> indices of the rows with an IQM for which it is unknown."""
    found = {
        one.key: [index for index, row in enumerate(section.rows) if row.iqm is not None and row.unknown(one)]
        for one in columns.COSTS
    }
    return {key: rows for key, rows in found.items() if rows}


def undecided_costs(section: Section) -> list[str]:
    """Keys of measured costs in which all rows differ by less than ``ALIKE``: a busy machine causes as much."""
    found = []
    for column in columns.COSTS:
        values = [row.cost[column.key] for row in section.rows if row.iqm is not None and column.key in row.cost]
        if not column.counted and min(values, default=0.0) < max(values, default=0.0) < (1 + ALIKE) * min(values):
            found.append(column.key)
    return found


def courses(used: Sequence[Record]) -> dict[str, Any]:
    """Learning curves and return against target return of one row, by task, over its seeds.
    ``curves``: [step, mean loss, smallest, largest]; ``evaluations``: [step, mean score]; ``targets``: [target, mean
    raw return, mean score]. ``used``: the records that count in the row's scores."""
    curves, evaluations, targets = {}, {}, {}
    ordered = sorted(used, key=lambda one: (one.identity.task, one.identity.seed))
    for task, records in together((record.identity.task, record) for record in ordered).items():
        losses = _shared(record.curve.loss for record in records)
        curves[task] = [[step, _mean(values), min(values), max(values)] for step, values in losses]
        scores = _shared([(one.step, one.normalised) for one in record.curve.evaluations] for record in records)
        evaluations[task] = [[step, _mean(values)] for step, values in scores]
        played = [record.scores.last.targets for record in records if record.scores is not None]
        targets[task] = [
            [one[0].target, _mean([of.raw_mean for of in one]), _mean([of.normalised_mean for of in one])]
            for one in zip(*played, strict=True)
        ]
    return {"curves": curves, "evaluations": evaluations, "targets": targets}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _shared(curves: Iterable[Sequence[tuple[int, float]]]) -> list[tuple[int, list[float]]]:
    """(step, values of all seeds) at the steps that every seed has: a mean over fewer seeds would jump."""
    there = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in there))) if there else []
    return [(step, [curve[step] for curve in there]) for step in steps]


def _matrices(section: Section) -> dict[int, statistics.Floats]:
    return {index: np.array(row.matrix) for index, row in enumerate(section.rows) if row.matrix}
