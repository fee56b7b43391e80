"""Targets by the rule, against a plain count of steps."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data.trajectories import Trajectories, by_rule


def of(episodes: list[list[float]]) -> Trajectories:
    lengths = [len(one) for one in episodes]
    return Trajectories(
        states=np.zeros((sum(lengths), 1), np.float32),
        actions=np.zeros((sum(lengths), 1), np.float32),
        rewards=np.concatenate([np.array(one, dtype=float) for one in episodes]),
        terminated=np.ones(len(lengths), bool),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


def test_quantiles_are_over_steps_instead_of_episodes() -> None:
    short, long = [[0.0]] * 90, [[1.0] * 100] * 9  # nine in ten episodes are bad, one in eleven steps
    assert by_rule(of(short + long)) == (100.0,)
    assert by_rule(of([[1.0] * 60, [2.0] * 39, [500.0]])) == (78.0, 60.0)


def test_negative_returns_give_ordered_targets() -> None:
    episodes = [[-float(n)] * 10 for n in range(100)]
    assert by_rule(of(episodes)) == (-50.0, -500.0)


def test_targets_have_three_digits_and_may_be_clipped() -> None:
    assert by_rule(of([[12.3456] * 10])) == (123.0,)
    assert by_rule(of([[12.3456] * 10]), clipped=True) == (10.0,)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=8), min_size=1, max_size=12))
def test_targets_equal_a_count_of_steps(episodes: list[list[int]]) -> None:
    data = of([[float(r) for r in one] for one in episodes])
    per_step = sorted(float(sum(one)) for one in episodes for _ in one)
    expected = [per_step[math.ceil(share * len(per_step)) - 1] for share in (Fraction(95, 100), Fraction(1, 2))]
    assert by_rule(data) == tuple(dict.fromkeys(float(f"{v:.3g}") for v in expected))
