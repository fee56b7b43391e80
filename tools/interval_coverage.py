"""Simulate how often a nominal 95 % interval of ``statistics`` contains the true value.

Run ``python tools/interval_coverage.py``. It simulates nine tasks with mean normalised scores evenly from 10 to 90 and
normal noise between seeds of 6, which is typical of nine Gym tasks. Twenty thousand seeds give the true value.
"""

from __future__ import annotations

import numpy as np

from backbench.leaderboard.board.columns import METRICS
from backbench.leaderboard.scores.statistics import COVERAGE, Floats, Statistic, estimate

STATISTICS = {metric.key: metric.statistic for metric in METRICS}
NOISE = 6.0
TASKS = np.linspace(10.0, 90.0, 9)


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


def main() -> None:
    """Print the shares in ``statistics.COVERAGE`` with two digits."""
    for name, shares in COVERAGE.items():
        statistic = STATISTICS["mean" if name == "task" else name]
        tasks = TASKS[:1] if name == "task" else TASKS
        found = ", ".join(f"{seeds}: {covered(statistic, seeds, tasks=tasks):.2f}" for seeds in shares)
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()
