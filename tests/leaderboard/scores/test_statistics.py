"""Point estimates by hand, intervals by what must hold of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest, t, ttest_ind

from backbench.leaderboard.board.columns import METRICS
from backbench.leaderboard.scores import statistics as stats

STATISTICS = {metric.key: metric.statistic for metric in METRICS}

# What another implementation makes of the same data; calls and versions are in the file. Its scores have the reference
# at 1, ours at 100.
RLIABLE: dict[str, Any] = json.loads((Path(__file__).parent / "rliable_values.json").read_text())

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
def test_statistics_match_values_by_hand(name: str, expected: float) -> None:
    assert STATISTICS[name](SCORES) == pytest.approx(expected, abs=1e-12)


def test_statistics_of_skewed_scores_match_values_by_hand() -> None:
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


@given(matrices, st.sampled_from(sorted(STATISTICS)))
def test_order_of_runs_and_tasks_does_not_matter(scores: np.ndarray, name: str) -> None:
    statistic = STATISTICS[name]
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(scores, axis=0)[:, rng.permutation(scores.shape[1])]
    assert statistic(shuffled) == pytest.approx(statistic(scores), abs=1e-9)


@given(matrices, st.floats(-10, 10))
def test_a_shift_moves_all_but_the_gap(scores: np.ndarray, shift: float) -> None:
    for statistic in (stats.mean, stats.median, stats.iqm):
        assert statistic(scores + shift) == pytest.approx(statistic(scores) + shift, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(matrices, st.sampled_from(sorted(STATISTICS)))
def test_interval_lies_within_what_was_seen(scores: np.ndarray, name: str) -> None:
    statistic = STATISTICS[name]
    low, high = stats.stratified_bootstrap(scores, statistic, np.random.default_rng(0), resamples=200)
    # As many runs as were drawn: the interquartile mean cuts another share of fewer.
    worst, best = (np.broadcast_to(end(scores, axis=0), scores.shape) for end in (np.min, np.max))
    ends = sorted((float(statistic(worst)), float(statistic(best))))
    assert ends[0] - 1e-9 <= low <= high <= ends[1] + 1e-9


def test_runs_are_drawn_within_their_task() -> None:
    """Tasks differ, runs do not: no spread. Pooling would see one."""
    scores = np.tile([0.0, 50.0, 100.0], (5, 1))
    for statistic in STATISTICS.values():
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
def test_empty_or_non_finite_scores_are_refused(scores: object) -> None:
    with pytest.raises(ValueError):
        stats.estimate(scores)  # type: ignore[arg-type]


def test_one_run_has_no_interval_over_runs() -> None:
    with pytest.raises(ValueError, match="one run"):
        stats.stratified_bootstrap([[1.0, 2.0]], stats.mean, np.random.default_rng(0))


def of_rliable(name: str) -> np.ndarray:
    return 100.0 * np.array(RLIABLE["scores"][name])


@pytest.mark.parametrize("name", ["x", "y", "z"])
@pytest.mark.parametrize("aggregate", sorted(STATISTICS))
def test_aggregates_are_those_of_rliable(name: str, aggregate: str) -> None:
    scale = 1.0 if aggregate == "optimality_gap" else 100.0
    found = stats.estimate(of_rliable(name), STATISTICS[aggregate])
    assert found.value == pytest.approx(scale * RLIABLE["aggregates"][name][aggregate], abs=1e-9)
    # Other draws and another generator: ends agree to a twelfth of the width, and a lattice of few runs jumps.
    low, high = (scale * end for end in RLIABLE["intervals"][name][aggregate])
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=(high - low) / 12)


@pytest.mark.parametrize("name", ["x", "y", "z"])
def test_profiles_are_those_of_rliable(name: str) -> None:
    # A score that equals tau is not above it, whatever the factor 100 does to its last bit.
    scores, taus = of_rliable(name), 100.0 * np.array(RLIABLE["taus"]) + 1e-6
    assert stats.performance_profile(scores, taus) == pytest.approx(RLIABLE["profile"][name], abs=1e-12)
    low, high = stats.profile_interval(scores, taus)
    assert np.stack([low, high]) == pytest.approx(np.array(RLIABLE["profile_intervals"][name]), abs=0.1)
    assert np.abs(np.stack([low, high]) - RLIABLE["profile_intervals"][name]).mean() < 0.01


def test_improvement_is_that_of_rliable() -> None:
    for pair, expected in RLIABLE["improvement"].items():
        x, y = map(of_rliable, pair.split(","))
        assert stats.probability_of_improvement(x, y) == pytest.approx(expected, abs=1e-12)
    found = stats.improvement_interval(of_rliable("x"), of_rliable("y"))
    assert found == pytest.approx(RLIABLE["improvement_interval"]["x,y"], abs=0.02)


def test_profile_by_hand() -> None:
    # Of 8 runs 8, 7, 4 and 0 are above 5, 10, 40 and 100: above means above.
    assert stats.performance_profile(SCORES, [5.0, 10.0, 40.0, 100.0]).tolist() == [1.0, 0.875, 0.5, 0.0]


def test_improvement_by_hand() -> None:
    # First task: of the pairs (1, 0) (1, 2) (3, 0) (3, 2) three are won. Second: a tie and a loss.
    x, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[0.0, 5.0], [2.0, 9.0]])
    assert stats.probability_of_improvement(x, y) == pytest.approx((0.75 + 0.25) / 2)


@settings(deadline=None)
@given(matrices, st.data())
def test_improvement_counts_every_pair_of_runs(x: np.ndarray, data: st.DataObject) -> None:
    y = data.draw(
        arrays(np.float64, (data.draw(st.integers(1, 4)), x.shape[1]), elements=st.sampled_from([0.0, 1.0, 50.0]))
    )
    x = np.where(x > 50, 50.0, x)  # so that there are ties
    won = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x[:, task], y[:, task])])
        for task in range(x.shape[1])
    ]
    found = stats.probability_of_improvement(x, y)
    assert found == pytest.approx(np.mean(won))
    assert found + stats.probability_of_improvement(y, x) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(matrices)
def test_profiles_fall_and_stay_within_their_bands(scores: np.ndarray) -> None:
    taus = np.linspace(-60, 160, 23)
    share = stats.performance_profile(scores, taus)
    low, high = stats.profile_interval(scores, taus, resamples=300)
    assert (share[0], share[-1]) == (1.0, 0.0)
    for curve in (share, low, high):
        assert (np.diff(curve) <= 1e-12).all()
    assert (low <= high).all()
    alike = np.tile(scores[:1], (3, 1))
    ends = stats.profile_interval(alike, taus, resamples=50)
    assert ends[0] == pytest.approx(ends[1])  # tasks differ, runs do not
    assert ends[0] == pytest.approx(stats.performance_profile(alike, taus))


def test_both_sides_of_a_comparison_are_drawn_apart() -> None:
    """0 and 100 against the same: drawn together it would always be one half; apart, one side is all 100 and the other
    all 0 in one draw of sixteen, either way."""
    pair = np.array([[0.0], [100.0]])
    assert stats.improvement_interval(pair, pair) == (0.0, 1.0)
    middle = stats.improvement_interval(pair, pair, level=0.3)
    assert middle == (0.5, 0.5)


def test_a_comparison_is_stratified_by_task() -> None:
    x = np.tile([0.0, 50.0, 100.0], (4, 1))
    assert stats.improvement_interval(x + 1.0, x) == (1.0, 1.0)
    assert stats.improvement_interval(x + np.array([1.0, -1.0, 0.0]), x) == pytest.approx((0.5, 0.5))


def test_a_single_run_has_no_interval_of_a_comparison() -> None:
    assert stats.improvement_interval([[1.0, 2.0]], [[0.0, 1.0], [0.0, 1.0]]) is None
    with pytest.raises(ValueError, match="one run"):
        stats.profile_interval([[1.0, 2.0]], [0.0])


def test_other_tasks_do_not_compare() -> None:
    with pytest.raises(ValueError, match="1 tasks do not compare with scores of 2 tasks"):
        stats.probability_of_improvement([[1.0]], [[1.0, 2.0]])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(1.0, 200.0))
def test_the_quantiles_of_t_are_scipys(share: float, freedom: float) -> None:
    assert stats.t_quantile(share, freedom) == pytest.approx(float(t.ppf(share, freedom)), rel=1e-5, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=12), st.lists(st.floats(-50, 50), min_size=2, max_size=12))
def test_the_interval_of_a_difference_is_welchs(x: list[float], y: list[float]) -> None:
    low, high = stats.difference_interval(x, y, 0.9)
    difference = np.mean(y) - np.mean(x)
    assert (low + high) / 2 == pytest.approx(difference, abs=1e-9)
    if np.std(x) + np.std(y) > 1e-3:
        expected = ttest_ind(y, x, equal_var=False).confidence_interval(0.9)
        assert (low, high) == (
            pytest.approx(expected.low, rel=1e-4, abs=1e-4),
            pytest.approx(expected.high, rel=1e-4, abs=1e-4),
        )


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 3), (81, 263), (7, 1000)])
def test_the_interval_of_a_rate_is_wilsons(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert stats.wilson_interval(successes, trials) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_the_interval_of_a_rate_is_on_the_scale_of_the_scores() -> None:
    found = stats.rate_interval([100.0] * 10, (0.0, 100.0))
    assert (found.high, found.over, found.n, found.method) == (100.0, "episodes", 10, "wilson")
    assert found.low == pytest.approx(72.25, abs=0.01)
    turned = stats.rate_interval([-3.0, 5.0], (5.0, -3.0))  # a success may score less than a failure
    low, high = stats.wilson_interval(1, 2)
    assert (turned.low, turned.high) == pytest.approx((-3 + 8 * low, -3 + 8 * high))


def looped(x: np.ndarray, y: np.ndarray, resamples: int) -> list[float]:
    """Resampled paired differences, one by one."""
    rng, found = np.random.default_rng(1), []
    for _ in range(resamples):
        differences = []
        for task in range(x.shape[1]):
            starts = rng.integers(x.shape[2], size=x.shape[2])
            ours = rng.integers(len(x), size=len(x)) if min(len(x), len(y)) > 1 else np.arange(len(x))
            theirs = rng.integers(len(y), size=len(y)) if min(len(x), len(y)) > 1 else np.arange(len(y))
            differences += [x[run, task, start] / x.shape[0] / x.shape[2] for run in ours for start in starts]
            differences += [-y[run, task, start] / y.shape[0] / y.shape[2] for run in theirs for start in starts]
        found.append(sum(differences) / x.shape[1])
    return found


@pytest.mark.parametrize("runs", [(3, 4), (1, 3), (1, 1)])
def test_a_paired_difference_equals_a_plain_loop(runs: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    starts = rng.normal(50, 20, size=(2, 6))
    x, y = (rng.normal(starts + 5 * i, 8, size=(n, *starts.shape)) for i, n in enumerate(runs))
    found = stats.paired_difference(x, y)
    assert found.value == pytest.approx(x.mean() - y.mean())
    assert found.interval is not None
    assert (found.interval.over, found.interval.n) == (("starts", 6) if min(runs) == 1 else ("seeds and starts", 3))
    low, high = np.quantile(looped(x, y, 2000), [0.025, 0.975])
    reach = 0.1 * (high - low)  # both ends are estimates
    assert (found.interval.low, found.interval.high) == (pytest.approx(low, abs=reach), pytest.approx(high, abs=reach))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(2, 6), st.floats(-50, 50), st.integers(0))
def test_paired_differences_ignore_what_both_rows_share(
    ours: int, theirs: int, tasks: int, starts: int, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(40, 10, size=(runs, tasks, starts)) for runs in (ours, theirs))
    shared = rng.normal(0, 100, size=(tasks, starts))
    found, moved = stats.paired_difference(x, y), stats.paired_difference(x + shared + shift, y + shared)
    assert found.interval is not None
    assert moved.interval is not None
    ends = (found.value, found.interval.low, found.interval.high)
    assert (moved.value, moved.interval.low, moved.interval.high) == pytest.approx([end + shift for end in ends])
    assert found.interval.low - 1e-9 <= found.interval.high
    same = stats.paired_difference(x[:1], x[:1]).interval
    assert same is not None
    assert (same.low, same.high) == (0.0, 0.0)


def test_a_single_start_has_no_paired_interval_and_other_starts_do_not_compare() -> None:
    assert stats.paired_difference(np.full((3, 2, 1), 4.0), np.ones((3, 2, 1))) == stats.Estimate(3.0, None)
    with pytest.raises(ValueError, match="no common tasks and starts"):
        stats.paired_difference(np.ones((3, 2, 5)), np.ones((3, 2, 6)))
    with pytest.raises(ValueError, match="NaN"):
        stats.paired_difference(np.full((2, 2, 2), np.nan), np.ones((2, 2, 2)))
