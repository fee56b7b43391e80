"""A grid of results and its intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backbench.benchmarks.studies.grid import Grid
from backbench.errors import UserError

SIZES, AMOUNTS = [1e4, 3e4, 1e5], [10, 20, 40, 80]


def values(seeds: int = 3) -> Any:
    return np.random.default_rng(0).normal(1.0, 0.1, (seeds, 3, 4))


def missing(value: float) -> Any:
    found = values()
    found[2, 1, 3] = value
    return found


@pytest.mark.parametrize(
    ("sizes", "amounts", "given", "said"),
    [
        (SIZES[:2], AMOUNTS, values()[:, :2], "2 sizes: a study needs at least 3; add some"),
        (SIZES, AMOUNTS[:2], values()[:, :, :2], "2 amounts of data: a study needs at least 3; add some"),
        ([3e4, 1e4, 1e5], AMOUNTS, values(), "sizes 30000, 10000, 100000: give positive numbers, smallest first"),
        ([0, 1e4, 1e5], AMOUNTS, values(), "sizes 0, 10000, 100000: give positive numbers, smallest first"),
        (SIZES, AMOUNTS, values(1), "1 seed: a study needs at least 2 to tell how far seeds differ"),
        (SIZES, AMOUNTS, values()[0], "values of shape (3, 4): expected (seeds, 3, 4), a value a cell"),
        (SIZES, AMOUNTS, values()[:, :, 1:], "values of shape (3, 3, 3): expected (seeds, 3, 4), a value a cell"),
        (SIZES, AMOUNTS, missing(np.nan), "no value for seed 2, size 30,000, 80 episodes: run that cell again"),
        (SIZES, AMOUNTS, missing(np.inf), "no value for seed 2, size 30,000, 80 episodes: run that cell again"),
    ],
)  # fmt: skip
def test_what_is_no_grid_is_refused_in_one_line(sizes: Any, amounts: Any, given: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        Grid.of(sizes, amounts, given)
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_the_bootstrap_takes_each_seed_with_all_its_cells() -> None:
    grid = Grid.of(SIZES, AMOUNTS, np.arange(2)[:, None, None] + np.zeros((2, 3, 4)))
    means = grid.bootstrap(lambda mean: np.array([mean.min(), mean.max()]))
    assert means.shape == (1000, 2)
    assert np.array_equal(means[:, 0], means[:, 1])
    share = [float((means[:, 0] == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert share == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
    assert np.array_equal(means, grid.bootstrap(lambda mean: np.array([mean.min(), mean.max()]))), "nothing is random"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_interval_of_a_mean_holds_it_as_often_as_it_says(seeds: int) -> None:
    rng, held = np.random.default_rng(seeds), 0
    for _ in range(300):
        grid = Grid.of(SIZES, AMOUNTS, rng.standard_normal((seeds, 1, 1)) + np.zeros((seeds, 3, 4)))
        low, high = grid.interval(float(grid.mean[0, 0]), grid.bootstrap(lambda mean: mean[0, 0]))
        held += low <= 0 <= high
    assert 0.9 < held / 300 < 0.99
