"""Point estimates by hand, intervals by what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backbench.leaderboard import statistics as stats

# Four runs of two tasks. Task means 25 and 85; sorted: 10 20 30 40 | 70 80 90 100.
SCORES = np.array([[10.0, 70.0], [20.0, 80.0], [30.0, 90.0], [40.0, 100.0]])

matrices = arrays(
    np.float64, st.tuples(st.integers(2, 6), st.integers(1, 5)), elements=st.floats(-50, 150, allow_subnormal=False)
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean", 55.0),
        ("median", 55.0),
        ("iqm", 55.0),  # of 8 two are cut at each end: (30 + 40 + 70 + 80) / 4
        ("optimality_gap", 0.45),
    ],
)
def test_golden(name: str, expected: float) -> None:
    assert stats.AGGREGATES[name](SCORES) == pytest.approx(expected, abs=1e-12)


def test_golden_where_they_differ() -> None:
    scores = np.array([[0.0, 10.0, 300.0], [20.0, 30.0, 500.0]])
    assert stats.mean(scores) == pytest.approx((10 + 20 + 400) / 3)
    assert stats.median(scores) == pytest.approx(20)
    # 6 values, 6 // 4 = 1 cut at each end: 10, 20, 30, 300
    assert stats.iqm(scores) == pytest.approx(90)
    # 1 - (0 + .1 + 1 + .2 + .3 + 1) / 6
    assert stats.optimality_gap(scores) == pytest.approx(1 - 2.6 / 6)


@settings(deadline=None)  # the first example imports SciPy
@given(matrices)
def test_iqm_is_the_trimmed_mean(scores: np.ndarray) -> None:
    trim_mean = pytest.importorskip("scipy.stats").trim_mean
    assert stats.iqm(scores) == pytest.approx(trim_mean(scores, proportiontocut=0.25, axis=None))


@given(matrices, st.sampled_from(sorted(stats.AGGREGATES)))
def test_order_of_runs_and_tasks_does_not_matter(scores: np.ndarray, name: str) -> None:
    statistic = stats.AGGREGATES[name]
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(scores, axis=0)[:, rng.permutation(scores.shape[1])]
    assert statistic(shuffled) == pytest.approx(statistic(scores), abs=1e-9)


@given(matrices, st.floats(-10, 10))
def test_a_shift_moves_all_but_the_gap(scores: np.ndarray, shift: float) -> None:
    for statistic in (stats.mean, stats.median, stats.iqm):
        assert statistic(scores + shift) == pytest.approx(statistic(scores) + shift, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(matrices, st.sampled_from(sorted(stats.AGGREGATES)))
def test_interval_lies_within_what_was_seen(scores: np.ndarray, name: str) -> None:
    statistic = stats.AGGREGATES[name]
    low, high = stats.stratified_bootstrap(scores, statistic, np.random.default_rng(0), resamples=200)
    ends = sorted((float(statistic(scores.min(axis=0)[None])), float(statistic(scores.max(axis=0)[None]))))
    assert ends[0] - 1e-9 <= low <= high <= ends[1] + 1e-9


def test_runs_are_drawn_within_their_task() -> None:
    """Tasks differ, runs do not: no spread. Pooling would see one."""
    scores = np.tile([0.0, 50.0, 100.0], (5, 1))
    for statistic in stats.AGGREGATES.values():
        low, high = stats.stratified_bootstrap(scores, statistic, np.random.default_rng(0))
        assert low == high == statistic(scores)


def test_interval_of_two_runs_is_known() -> None:
    """The mean of 0 and 100 drawn twice is 0, 50, 100 with 1/4, 1/2, 1/4: the 95 % interval is everything, the 40 %
    interval is its middle."""
    pair = np.array([[0.0], [100.0]])
    rng = np.random.default_rng(0)
    assert stats.stratified_bootstrap(pair, stats.mean, rng) == (0.0, 100.0)
    assert stats.stratified_bootstrap(pair, stats.mean, rng, level=0.4) == (50.0, 50.0)


def test_interval_has_the_width_of_a_normal_mean() -> None:
    scores = np.random.default_rng(1).normal(50, 10, size=(400, 1))
    low, high = stats.stratified_bootstrap(scores, stats.mean, np.random.default_rng(0))
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / 20, rel=0.05)


def test_equal_seeds_give_equal_intervals() -> None:
    assert stats.estimate(SCORES, stats.iqm, seed=3) == stats.estimate(SCORES, stats.iqm, seed=3)
    found = stats.estimate(SCORES).interval
    assert found is not None
    assert (found.over, found.n) == ("seeds", 4)
    # Standard error of the mean of two task means over four runs: sqrt(125 / 4 / 2) = 3.95
    assert (found.low, found.high) == pytest.approx((55 - 1.96 * 3.95, 55 + 1.96 * 3.95), abs=1.0)


def test_one_seed_is_labelled_as_episodes() -> None:
    found = stats.interval([50.0], episodes=[40.0, 60.0])
    assert found == stats.Interval(40.0, 60.0, "episodes", 2)
    assert stats.interval([50.0]) is None
    assert stats.interval([50.0], episodes=[50.0]) is None
    several = stats.interval([50.0, 60.0], episodes=[0.0, 100.0])
    assert several is not None
    assert (several.over, several.n) == ("seeds", 2)


def test_episodes_are_drawn_within_their_task() -> None:
    found = stats.estimate([[10.0, 90.0]], stats.mean, episodes=[[10.0, 10.0], [90.0, 90.0, 90.0]])
    assert found == stats.Estimate(50.0, stats.Interval(50.0, 50.0, "episodes", 2))


@pytest.mark.parametrize("scores", [[[np.nan, 1.0]], [1.0, 2.0], np.empty((0, 3)), [[np.inf]]])
def test_no_scores(scores: object) -> None:
    with pytest.raises(ValueError):
        stats.estimate(scores)  # type: ignore[arg-type]


def test_one_run_has_no_interval_over_runs() -> None:
    with pytest.raises(ValueError, match="one run"):
        stats.stratified_bootstrap([[1.0, 2.0]], stats.mean, np.random.default_rng(0))
