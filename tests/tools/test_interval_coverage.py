"""The published coverage of intervals is that of the simulation."""

from __future__ import annotations

import numpy as np
import pytest
from interval_coverage import STATISTICS, TASKS, covered, paired_covered

from backbench.leaderboard.scores.statistics import COVERAGE, PAIRED_COVERAGE, estimate

REPEATS = 500


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("name", list(COVERAGE))
def test_simulated_shares_equal_the_published_ones(name: str, seeds: int) -> None:
    tasks = TASKS[:1] if name == "task" else TASKS
    found = covered(STATISTICS["mean" if name == "task" else name], seeds, tasks=tasks, repeats=REPEATS, resamples=500)
    said = COVERAGE[name][seeds]
    assert abs(found - said) < 3 * np.sqrt(said * (1 - said) / REPEATS) + 0.01
    assert found < 0.97  # no interval reaches its nominal 95 % by more than noise


def test_interval_of_three_seeds_spans_smallest_to_largest() -> None:
    values = np.array([[86.7], [65.9], [36.5]])
    found = estimate(values).interval
    assert found is not None
    assert (found.low, found.high) == pytest.approx((36.5, 86.7))


@pytest.mark.parametrize("seeds", [1, 3])
def test_paired_intervals_cover_as_published_and_are_narrower_than_unpaired_ones(seeds: int) -> None:
    found, width, apart = paired_covered(seeds, repeats=REPEATS // 2)
    said = PAIRED_COVERAGE[seeds]
    assert abs(found - said) < 3 * np.sqrt(said * (1 - said) / (REPEATS // 2)) + 0.01
    assert width < 0.75 * apart


def test_pairing_gains_nothing_where_starts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interval_coverage.START_SPREAD", 0.0)
    _, width, apart = paired_covered(3, repeats=100)
    assert width == pytest.approx(apart, rel=0.02)
