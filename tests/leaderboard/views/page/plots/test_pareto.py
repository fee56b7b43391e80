"""The Pareto front."""

from __future__ import annotations

import pytest
from plot_tools import parse, styles_of
from view_factory import make_section

from backbench.leaderboard.views.page.plots.pareto import pareto


def test_the_front_is_ringed_and_joined() -> None:
    section = make_section(rows=3)
    ids = [row["id"] for row in section["rows"]]
    for row, parameters, value in zip(section["rows"], (1e5, 1e4, 1e6), (60.0, 50.0, 40.0), strict=True):
        row["cost"] = {"parameters": parameters}
        row["aggregates"]["iqm"] = {"value": value, "low": None, "high": None, "over": None, "n": 1}
    section["pareto"] = {"parameters": ids[:2]}
    panels = pareto(section, section["rows"], styles_of(section))
    assert len(panels) == 1
    tree = parse(panels[0])
    rings = [float(ring.get("cx", "")) for ring in tree.iter("circle") if ring.get("class") == "ring"]
    # A decade of two, from 1e4 / 100 ** .08 to 1e6 * 100 ** .08, on 56 .. 288: the middle one is 172.
    assert rings == pytest.approx([172.0, 172 - 232 / 2.32], abs=0.06)
    joined = [line for line in tree.iter("line") if line.get("class") == "front"]
    assert len(joined) == 1
    assert "log" in "".join(tree.itertext())
