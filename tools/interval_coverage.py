"""Simulate how often a nominal 95 % interval of ``statistics`` contains the true value.

Run ``python tools/interval_coverage.py``. It simulates nine tasks with mean normalised scores evenly from 10 to 90 and
normal noise between seeds of 6, which is typical of nine Gym tasks. Twenty thousand seeds give the true value.
For paired differences two rows play the same ten starts of each task. The scores of starts spread by 15, each row's
answer to a start by 5, and an episode of one seed by 10 more. The true difference is 3.
"""

from __future__ import annotations

import numpy as np

from backbench.leaderboard.board.columns import METRICS
from backbench.leaderboard.scores.statistics import (
    COVERAGE,
    PAIRED_COVERAGE,
    Floats,
    Statistic,
    estimate,
    paired_difference,
)

STATISTICS = {metric.key: metric.statistic for metric in METRICS}
NOISE = 6.0
TASKS = np.linspace(10.0, 90.0, 9)
DIFFERENCE, STARTS, START_SPREAD, ANSWER_SPREAD, EPISODE_SPREAD = 3.0, 10, 15.0, 5.0, 10.0


def covered(
    statistic: Statistic, seeds: int, *, tasks: Floats = TASKS, repeats: int = 2000, resamples: int = 1000
) -> float:
    """Share of ``repeats`` simulated boards whose interval of ``statistic`` contains the true value.

    A board is (seeds, tasks), and ``tasks`` are mean normalised scores. The share's standard error is at most
    ``0.5 / sqrt(repeats)``.
    """
    rng = np.random.default_rng(0)
    true = float(statistic(rng.normal(tasks, NOISE, size=(20_000, len(tasks)))))
    hits = 0
    for repeat in range(repeats):
        scores = rng.normal(tasks, NOISE, size=(seeds, len(tasks)))
        found = estimate(scores, statistic, seed=repeat, resamples=resamples).interval
        assert found is not None
        hits += found.low <= true <= found.high
    return hits / repeats


def same_starts(rng: np.random.Generator, seeds: int, tasks: Floats = TASKS) -> tuple[Floats, Floats]:
    """Scores (seeds, tasks, starts) of two rows that play the same starts; the first is better by ``DIFFERENCE``."""
    starts = rng.normal(tasks[:, None], START_SPREAD, size=(len(tasks), STARTS))
    rows = []
    for better in (DIFFERENCE, 0.0):
        answers = rng.normal(starts, ANSWER_SPREAD)
        trained = rng.normal(better, NOISE, size=(seeds, len(tasks), 1))
        rows.append(rng.normal(answers + trained, EPISODE_SPREAD))
    return rows[0], rows[1]


def paired_covered(seeds: int, *, repeats: int = 2000, tasks: Floats = TASKS) -> tuple[float, float, float]:
    """Simulate ``repeats`` pairs of rows: share of intervals of ``paired_difference`` that contain the true value,
    their mean width, and the mean width if the starts of the two rows are taken for different ones."""
    rng, hits, widths, apart = np.random.default_rng(0), 0, 0.0, 0.0
    for _ in range(repeats):
        x, y = same_starts(rng, seeds, tasks)
        found = paired_difference(x, y).interval
        # Against a row of zeros each row's own starts vary; the variances of two independent means add up.
        alone = [paired_difference(row, np.zeros_like(row)).interval for row in (x, y)]
        assert found is not None
        hits += found.low <= DIFFERENCE <= found.high
        widths += found.high - found.low
        apart += float(np.hypot(*(one.high - one.low for one in alone if one is not None)))
    return hits / repeats, widths / repeats, apart / repeats


def main() -> None:
    """Print the shares in ``statistics.COVERAGE`` and ``PAIRED_COVERAGE`` with two digits."""
    for name, shares in COVERAGE.items():
        statistic = STATISTICS["mean" if name == "task" else name]
        tasks = TASKS[:1] if name == "task" else TASKS
        found = ", ".join(f"{seeds}: {covered(statistic, seeds, tasks=tasks):.2f}" for seeds in shares)
        print(f"{name}: {found}")
    for seeds in PAIRED_COVERAGE:
        share, width, apart = paired_covered(seeds)
        print(f"paired, {seeds} seeds: {share:.2f}, width {width:.1f}, as if starts differed {apart:.1f}")


if __name__ == "__main__":
    main()
