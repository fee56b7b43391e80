"""The simulation of scaling laws counts what it says."""

from __future__ import annotations

import pytest
from law_coverage import TRUE, holds, laws, main, simulated


def test_shares_are_those_of_the_intervals() -> None:
    found = laws(TRUE, 3, 0.7, 4)
    assert holds(found, "a", TRUE.a) >= 0.75
    assert holds(found, "a", 99.0) == 0.0
    assert holds(found, "E", 0.7) == 1.0


def test_half_of_the_grids_have_noise_that_cells_share() -> None:
    spread = []
    for stream in (0, 1):
        values = simulated(TRUE, 400, stream).values
        rows = values.mean(axis=2)  # noise of single cells averages out
        spread.append(float((rows.std(axis=0) / rows.mean(axis=0)).mean()))
    assert spread[1] > 1.3 * spread[0]


def test_it_prints_a_line_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    main(repeats=1, numbers=(2,))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.count("%") == 6 for line in lines[1:])
