"""How often a nominal 95 % interval of ``statistics`` holds the true value, by simulation.

``python tools/interval_coverage.py`` prints it. Simulated are nine tasks whose mean scores lie evenly from 10 to
90 points, with normal noise between seeds of 6 points, about what nine Gym tasks have. The true value of a statistic is
what twenty thousand seeds give.
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
    """Share of ``repeats`` simulated boards whose interval of ``statistic`` over (seeds, tasks) holds the true value.

    ``tasks``: their mean scores, in points. The standard error of the share is at most ``0.5 / sqrt(repeats)``.
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
    """Print the shares that ``statistics.COVERAGE`` holds, two digits each."""
    for name, shares in COVERAGE.items():
        statistic = STATISTICS["mean" if name == "task" else name]
        tasks = TASKS[:1] if name == "task" else TASKS
        found = ", ".join(f"{seeds}: {covered(statistic, seeds, tasks=tasks):.2f}" for seeds in shares)
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()
