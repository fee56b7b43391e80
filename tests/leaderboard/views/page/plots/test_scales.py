"""Axes against numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbench.leaderboard.views.page.plots.scales import Scale, axis, log_ticks, span, ticks


def test_a_linear_scale_is_proportional_and_clips() -> None:
    scale = Scale(10, 30, 100, 300)
    assert [scale(value) for value in (10, 15, 30)] == [100, 150, 300]
    assert [scale(value) for value in (-5, 99)] == [100, 300]  # drawn at the edge
    assert Scale(0, 1, 200, 40)(0.25) == 160  # upwards on the page is downwards in numbers


def test_a_logarithmic_scale_gives_each_decade_equal_room() -> None:
    scale = Scale(1, 1000, 0, 300, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 100, 4, [0, 20, 40, 60, 80, 100]),
        (0, 1, 4, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 12, 5, [0, 5, 10]),
        (47.7, 56.7, 4, [48, 50, 52, 54, 56]),
        (0.27, 0.45, 4, [0.3, 0.35, 0.4, 0.45]),
        (-4200, 4200, 4, [-4000, -2000, 0, 2000, 4000]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, count: int, expected: list[float]) -> None:
    assert ticks(low, high, count) == expected


def test_logarithmic_ticks_are_powers_of_ten_or_their_parts() -> None:
    assert log_ticks(0.5, 2e4) == [1, 10, 100, 1000, 10_000]
    assert log_ticks(15, 80) == [20, 50]
    assert log_ticks(0.08, 1.1) == [0.1, 0.2, 0.5, 1]
    assert log_ticks(61, 79, 3) == [65, 70, 75]
    assert log_ticks(1, 1e12, 5) == [1, 1e3, 1e6, 1e9, 1e12]


@given(
    st.floats(-1e9, 1e9).flatmap(lambda low: st.tuples(st.just(low), st.floats(low + 1e-3 + abs(low) * 1e-6, 2e9))),
    st.integers(2, 8),
)
def test_ticks_are_few_even_and_inside(ends: tuple[float, float], count: int) -> None:
    low, high = ends
    found = ticks(low, high, count)
    slack = (high - low) * 1e-6 + 1e-9
    assert 1 <= len(found) <= count + 2
    assert all(low - slack <= tick <= high + slack for tick in found)
    steps = {f"{b - a:.4g}" for a, b in pairwise(found)}
    assert len(steps) <= 1 or abs(low) > 1e6


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_every_value_is_inside_its_axis(values: list[float]) -> None:
    low, high = span(values)
    assert low < min(values) <= max(values) < high
    scale = axis(values, 0, 200, log_from=3)
    assert all(0 <= scale(value) <= 200 for value in values)
    assert scale.log == (0 < 3 * min(values) <= max(values) < 1e15 * min(values))
