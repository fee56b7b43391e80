"""Simulate how often the intervals of a scaling law hold its exponents, and how often a law is found.

Run ``python tools/law_coverage.py``. A grid has 4 sizes and 5 amounts of data. The true law is
L = 0.7 + 0.2 (N/20,000)^-0.4 + 0.5 (D/75)^-0.6. Noise between seeds is 3 % of L - 0.7 in each cell, and in half of the
grids also 2 % in all cells of a seed with one size, and 2 % in those with one amount.
"""

from __future__ import annotations

import numpy as np

from backbench.benchmarks.studies.grid import Grid
from backbench.benchmarks.studies.law import Fit, Law, fit_law

SIZES, AMOUNTS = np.array([2e4, 6e4, 2e5, 6e5]), np.array([75.0, 150, 300, 600, 1200])
TRUE = Fit(a=0.4, b=0.6, A=0.2 * 2e4**0.4, B=0.5 * 75**0.6, E=0.7)
EACH, SHARED = 0.03, 0.02


def simulated(true: Fit, seeds: int, stream: int) -> Grid:
    """A grid of losses of a law. Odd numbers of a ``stream`` of random numbers have noise that cells share."""
    rng = np.random.default_rng(stream)
    noise = EACH * rng.standard_normal((seeds, 4, 5))
    shared = rng.standard_normal((seeds, 4, 1)) + rng.standard_normal((seeds, 1, 5))
    noise += SHARED * shared * (stream % 2)
    return Grid.of(SIZES, AMOUNTS, true.E + true.excess(SIZES, AMOUNTS) * np.exp(noise))


def laws(true: Fit, seeds: int, ideal: float | None, repeats: int) -> list[Law]:
    """Fits of ``repeats`` simulated grids."""
    return [fit_law(simulated(true, seeds, stream), ideal) for stream in range(repeats)]


def holds(found: list[Law], name: str, value: float) -> float:
    """Share of the intervals of one number that hold ``value``."""
    return float(np.mean([low <= value <= high for low, high in (one.intervals[name] for one in found)]))


def main(repeats: int = 200, numbers: tuple[int, ...] = (2, 3, 5)) -> None:
    """Print a line for each number of seeds, with E known and fitted."""
    print("seeds  E       a held  b held  prediction held  law found  found without a, without b")
    for seeds in numbers:
        for ideal in (TRUE.E, None):
            found = laws(TRUE, seeds, ideal, repeats)
            wrong = [laws(TRUE._replace(**{factor: 0.0}), seeds, ideal, repeats) for factor in "AB"]
            shares = [
                holds(found, "a", TRUE.a),
                holds(found, "b", TRUE.b),
                np.mean([not one.prediction.missed for one in found]),
                *(np.mean([one.verdict == "law" for one in some]) for some in (found, *wrong)),
            ]
            text = "  ".join(f"{100 * share:5.1f} %" for share in shares)
            print(f"{seeds:5}  {'fitted' if ideal is None else 'known':6}  {text}", flush=True)


if __name__ == "__main__":
    main()
