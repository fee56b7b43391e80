"""What a doubling changes."""

from __future__ import annotations

import numpy as np
import pytest

from backbench.benchmarks.studies.gains import gains
from backbench.benchmarks.studies.grid import Grid
from backbench.errors import UserError

SIZES, AMOUNTS = np.array([1e4, 4e4, 16e4]), np.array([100.0, 200, 400, 800])


def made(data: float, noise: float = 0.0, seeds: int = 3, stream: int = 0) -> Grid:
    """Losses that twice the data multiply by 1 + ``data``, and that the model does not change."""
    losses = np.broadcast_to((1 + data) ** np.arange(4.0), (3, 4))
    return Grid.of(SIZES, AMOUNTS, losses * np.exp(noise * np.random.default_rng(stream).normal(size=(seeds, 3, 4))))


def test_a_gain_is_the_change_by_one_doubling() -> None:
    found = gains(made(-0.1))
    assert found["data"].change == pytest.approx(-0.1)
    assert found["model"].change == pytest.approx(0.0)
    sizes = Grid.of(AMOUNTS, SIZES, np.moveaxis(made(-0.1).values, 1, 2))
    assert gains(sizes)["model"].change == pytest.approx(-0.1)


def test_steps_of_two_doublings_count_as_two() -> None:
    losses = np.broadcast_to(np.array([1.0, 0.8, 0.6])[:, None], (3, 4))  # of sizes that are four times as large
    assert gains(Grid.of(SIZES, AMOUNTS, np.stack([losses] * 2)))["model"].change == pytest.approx(-0.2 / 1.8)


def test_intervals_hold_the_true_gain_about_as_often_as_they_say() -> None:
    held = [
        [one.low <= true <= one.high for one, true in ((found["data"], -0.1), (found["model"], 0.0))]
        for found in (gains(made(-0.1, 0.05, 3, stream)) for stream in range(100))
    ]
    assert (np.mean(held, axis=0) > 0.9).all()
    assert not all(np.ravel(held))


def test_a_change_of_nothing_is_refused() -> None:
    around = np.random.default_rng(0).normal(0, 1, (3, 3, 4))
    with pytest.raises(UserError, match="a relative change of it has no meaning"):
        gains(Grid.of(SIZES, AMOUNTS, around - around.mean()))
