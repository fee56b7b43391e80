"""Numbers as text."""

from __future__ import annotations

from backbench.leaderboard.views.page.numbers import coordinate, exact, score, short, tick_labels


def test_short_numbers_have_a_suffix() -> None:
    assert [short(value) for value in (0, 1500, 26_000, 3.5e6, 2e9, -4200, 0.0042)] == [
        "0", "1.5k", "26k", "3.5M", "2G", "−4.2k", "0.0042",
    ]  # fmt: skip


def test_counts_are_exact_and_other_numbers_have_three_digits() -> None:
    assert [exact(value) for value in (263_622, 22687.06, 1.29227, 400.0)] == ["263,622", "22,687", "1.29", "400"]


def test_tick_labels_differ_where_the_ticks_do() -> None:
    assert tick_labels([580.0, 580.5, 581.0]) == ["580", "580.5", "581"]
    assert tick_labels([0.0, 1000.0, 1500.0]) == ["0", "1k", "1.5k"]
    assert tick_labels([1.0, 1.0]) == ["1", "1"]


def test_scores_have_a_minus_sign_and_no_minus_zero() -> None:
    assert [score(value) for value in (53.84, -0.04, -3.26, None)] == ["53.8", "0.0", "−3.3", "—"]


def test_coordinates_are_tenths_of_a_pixel() -> None:
    assert [coordinate(value) for value in (12.0, 12.34, -0.01)] == ["12", "12.3", "0"]
