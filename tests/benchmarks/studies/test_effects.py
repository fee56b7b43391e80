"""Differences over tasks, verdicts, and the smallest effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from backbench.benchmarks.studies.effects import difference, said, smallest, verdict
from backbench.benchmarks.studies.study import CONTRADICTED, OPEN, SUPPORTED, Arm, Part
from backbench.leaderboard.scores.statistics import Estimate, Interval


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_one_task_gives_welchs_interval() -> None:
    x, y = (50.0, 54.0, 61.0, 47.0), (40.0, 42.0, 39.0)
    found = difference({"a": seeds(*x)}, {"a": seeds(*y)})
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert found.interval is not None
    assert found.value == pytest.approx(53.0 - 40.3333333)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_the_interval_over_tasks_holds_the_true_difference_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        level = rng.normal(50, 20, size=6)  # tasks differ, as they are fixed
        x = {str(task): seeds(*rng.normal(level[task] + 5, 10, size=2)) for task in range(6)}
        y = {str(task): seeds(*rng.normal(level[task], 10, size=2)) for task in range(6)}
        found = difference(x, y)
        assert found is not None
        assert found.interval is not None
        held += found.interval.low <= 5 <= found.interval.high
    assert 0.92 <= held / 400 <= 0.98


def test_tasks_that_only_one_has_do_not_count() -> None:
    found = difference({"a": seeds(1.0), "b": seeds(100.0)}, {"a": seeds(3.0)})
    assert found == Estimate(-2.0, None)
    assert difference({"a": seeds(1.0)}, {"b": seeds(1.0)}) is None
    assert said(found) == "-2.0 (one seed: no interval)"
    assert said(None) == "no common task"


def test_equal_scores_have_an_interval_without_width() -> None:
    found = difference({"a": seeds(2.0, 2.0)}, {"a": seeds(1.0, 1.0)})
    assert found is not None
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([(1, 2), (0.1, 9)], SUPPORTED),
        ([(1, 2), (-1, 9)], OPEN),
        ([(1, 2), (-9, -1)], CONTRADICTED),
        ([(1, 2), None], OPEN),
        ([], OPEN),
    ],
)
def test_a_claim_is_supported_only_where_all_intervals_are_above_zero(
    ends: list[tuple[float, float] | None], expected: str
) -> None:
    made = [None if one is None else Estimate(sum(one) / 2, Interval(*one, "seeds", 2)) for one in ends]
    assert verdict(made) == expected


def test_the_smallest_effect_is_found_with_the_power_that_is_said() -> None:
    part = Part("d4rl", ("a", "b", "c", "d", "e", "f"), (Arm("x", "mamba"),), (0, 1, 2))
    says = smallest([part])
    assert "9 points in the mean of 18 runs" in says
    rng, found = np.random.default_rng(1), 0
    for _ in range(400):
        x, y = rng.normal(9.34, 10, size=18), rng.normal(0, 10, size=18)
        found += stats.ttest_ind(x, y).pvalue < 0.05
    assert 0.74 <= found / 400 <= 0.86
