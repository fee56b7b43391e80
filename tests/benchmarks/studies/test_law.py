"""The fit of a scaling law, on grids whose law is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backbench.benchmarks.studies import law
from backbench.benchmarks.studies.grid import Grid
from backbench.benchmarks.studies.law import Fit, fit_law
from backbench.errors import UserError

SIZES, AMOUNTS = np.array([2e4, 6e4, 2e5, 6e5]), np.array([75.0, 150, 300, 600, 1200])
TRUE = Fit(a=0.4, b=0.6, A=0.2 * 2e4**0.4, B=0.5 * 75**0.6, E=0.7)


def grid(
    seeds: int, noise: float, stream: int = 0, true: Fit = TRUE, constant: float = 0.0, shared: float = 0.0
) -> Grid:
    """Losses of a law. ``noise`` is relative to the excess, or absolute with a ``constant`` excess of all cells.
    ``shared`` noise is that of all sizes of a seed on equal data, and of all amounts of a seed and size."""
    rng, excess = np.random.default_rng(stream), true.excess(SIZES, AMOUNTS)
    each = noise * rng.standard_normal((seeds, 4, 5))
    each += shared * (rng.standard_normal((seeds, 4, 1)) + rng.standard_normal((seeds, 1, 5)))
    losses = true.E + constant + each if constant else true.E + excess * np.exp(each)
    return Grid.of(SIZES, AMOUNTS, losses)


@pytest.mark.parametrize("ideal", [0.7, None])
def test_losses_without_noise_give_their_law_back(ideal: float | None) -> None:
    found = fit_law(grid(2, 0.0), ideal)
    assert found.fit == pytest.approx(TRUE, rel=1e-3)
    assert found.prediction.predicted == pytest.approx(found.prediction.measured, rel=1e-5)
    assert found.verdict == "law"


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("ideal", [0.7, None])
def test_known_exponents_are_recovered_from_noisy_losses(seeds: int, ideal: float | None) -> None:
    for stream in range(5):
        found = fit_law(grid(seeds, 0.02, stream), ideal).fit
        assert (found.a, found.b) == pytest.approx((0.4, 0.6), abs=0.06 if ideal else 0.15)
        assert pytest.approx(0.7, abs=0 if ideal else 0.05) == found.E


def test_intervals_cover_about_as_often_as_they_say() -> None:
    """Also where the cells of a seed share noise, which a bootstrap of single cells would miss."""
    held, missed, laws = np.zeros(2), 0, 0
    for stream in range(50):
        found = fit_law(grid(3, 0.03, stream, shared=0.02), 0.7)
        ends = [found.intervals[name] for name in "ab"]
        held += [low <= value <= high for (low, high), value in zip(ends, (0.4, 0.6), strict=True)]
        missed += found.prediction.missed
        laws += found.verdict == "law"
    assert (held / 50 >= 0.88).all(), held / 50
    assert missed <= 7
    assert laws >= 40, "a true law is found"


FLAT = {
    "no excess": (TRUE._replace(A=0.0, B=0.0), 1e-9), "equal losses": (TRUE, 0.3),
    "data alone": (TRUE._replace(A=0.0), 0.0), "the model alone": (TRUE._replace(B=0.0), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("surface", FLAT)
@pytest.mark.parametrize("ideal", [0.7, None])
def test_a_surface_that_does_not_fall_on_both_sides_is_no_law(surface: str, ideal: float | None) -> None:
    true, constant = FLAT[surface]
    found = [fit_law(grid(3, 0.02, stream, true, constant), ideal) for stream in range(6)]
    assert sum(one.verdict == "law" for one in found) <= 1, "5 % of all intervals miss"
    if ideal and not constant:
        other = "b" if surface == "data alone" else "a"
        assert not any(doubt.startswith(f"{other}, of the ") for one in found for doubt in one.doubts)


def test_a_law_that_breaks_off_is_refuted_by_its_largest_cell() -> None:
    """The largest model stops to improve: smaller cells still follow a law."""
    made = grid(3, 0.005)
    values = made.values.copy()
    values[:, -1] = values[:, 1]
    found = fit_law(Grid.of(SIZES, AMOUNTS, values), 0.7)
    assert found.prediction.missed
    assert found.prediction.measured > found.prediction.high
    assert "measured, and " in found.doubts[-1]
    assert found.verdict == "no law"


def test_the_prediction_does_not_see_the_largest_cells() -> None:
    made = grid(3, 0.02)
    values = made.values.copy()
    values[:, -1] += 0.3
    values[:, :, -1] += 0.3
    other = fit_law(Grid.of(SIZES, AMOUNTS, values), 0.7).prediction
    before = fit_law(made, 0.7).prediction
    assert other.predicted == pytest.approx(before.predicted, rel=0.02), "only the weights' floor, the noise, is of all"
    assert (before.size, before.amount) == (6e5, 1200)


def test_losses_below_the_ideal_by_luck_do_not_decide_the_fit() -> None:
    """The log of an excess of a billionth is -20, and that of a negative one is none."""
    excess, below = Fit(0.9, 1.2, 0.05 * 2e4**0.9, 0.1 * 75**1.2, 0.7).excess(SIZES, AMOUNTS), 0
    for stream in range(8):
        losses = 0.7 + excess + 0.01 * np.random.default_rng(stream).standard_normal((3, 4, 5))
        below += int((losses.mean(axis=0) < 0.7).sum())
        found = fit_law(Grid.of(SIZES, AMOUNTS, losses), 0.7).fit
        assert (found.a, found.b) == pytest.approx((0.9, 1.2), rel=0.5)
    assert below > 0


def test_the_closed_form_is_that_of_a_search_over_factors() -> None:
    made, rng = grid(2, 0.3, 4), np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, (4, 5))
    for a, b in ((0.3, 0.5), (2.0, 0.1), (0.02, 3.0)):
        u, v = SIZES[None] ** -a * 2e4**a, AMOUNTS[None] ** -b * 75**b
        ends = (0.0, float(made.mean.min()))
        least, A, B, E = (float(one[0, 0]) for one in law._project(made.mean, weights, u, v, ends))

        def error(A: Any, B: Any, E: Any, u: Any = u, v: Any = v) -> float:
            return float((weights * (made.mean - E - A * u.T - B * v) ** 2).sum())

        assert least == pytest.approx(error(A, B, E))
        assert A >= 0
        assert B >= 0
        assert ends[0] <= E <= ends[1]
        for _ in range(3000):
            scale = 10 ** rng.uniform(-4, 0)
            other = np.maximum([A, B, E], 0) + scale * rng.normal(size=3)
            A2, B2, E2 = max(0, other[0]), max(0, other[1]), float(np.clip(other[2], *ends))
            assert error(A2, B2, E2) >= least - 1e-12


@pytest.mark.parametrize(
    ("ideal", "said"),
    [
        (-0.1, "ideal loss -0.1: "),
        (1.3, "ideal loss 1.3: most cells have a smaller loss; it is of other episodes or another layout"),
    ],
)
def test_an_ideal_that_most_cells_are_below_is_refused(ideal: float, said: str) -> None:
    with pytest.raises(UserError) as error:
        fit_law(grid(2, 0.02), ideal)
    assert str(error.value).startswith(said)


def test_losses_that_are_not_positive_are_refused() -> None:
    with pytest.raises(UserError, match=r"a loss of -0\.3: give positive losses"):
        fit_law(Grid.of(SIZES, AMOUNTS, np.full((2, 4, 5), -0.3)))
