"""Aggregates, profiles and pairs, drawn where they belong."""

from __future__ import annotations

import re

import pytest
from plot_tools import parse, styles_of
from view_factory import make_section

from backbench.leaderboard.views.page.plots import comparisons


def test_an_interval_is_drawn_where_it_belongs() -> None:
    section = make_section(rows=2)
    first, second = section["rows"]
    first["aggregates"]["iqm"] = {"value": 50.0, "low": 40.0, "high": 60.0, "over": "seeds", "n": 3}
    second["aggregates"]["iqm"] = {"value": 30.0, "low": 20.0, "high": 45.0, "over": "seeds", "n": 3}
    panels = comparisons.aggregates(section["rows"], styles_of(section))
    assert len(panels) == 2
    tree = parse(panels[0])
    # 20 .. 60 with 6 % room is 17.6 .. 62.4, on 116 .. 290 of a panel 310 wide.
    lines = [line for line in tree.iter("line") if "iv" in line.get("class", "")]
    assert [float(lines[0].get(end, "")) for end in ("x1", "x2")] == pytest.approx(
        [116 + 174 * (40 - 17.6) / 44.8, 116 + 174 * (60 - 17.6) / 44.8], abs=0.06
    )
    assert lines[0].get("y1") == lines[0].get("y2") == "52"
    assert lines[1].get("y1") == "76"
    dot = next(mark for mark in tree.iter("circle"))
    assert float(dot.get("cx", "")) == pytest.approx(116 + 174 * (50 - 17.6) / 44.8, abs=0.06)
    assert dot.findtext("title") == "gloma: 50.0, 95 % interval 40.0 to 60.0 over 3 seeds"


def test_the_profile_falls_from_one_to_zero() -> None:
    section = make_section(rows=1)
    row = section["rows"][0]
    row["profile"] = {"tau": [0.0, 50.0, 100.0], "share": [1.0, 0.25, 0.0], "low": None, "high": None}
    tree = parse(comparisons.profiles([row], styles_of(section))[0])
    line = next(line for line in tree.iter("polyline"))
    # 46 .. 428 across; 260 (nothing) .. 40 (all) upwards.
    assert line.get("points") == "46,40 237,205 428,260"
    assert not list(tree.iter("polygon"))


def test_each_pair_is_compared_once_and_the_better_comes_first() -> None:
    section = make_section(rows=3)
    styles = styles_of(section)
    found = comparisons.pairs(section, styles)
    ids = [row["id"] for row in section["rows"]]
    assert [(one["x"], one["y"]) for one in found] == [(ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2])]
    assert all(one["probability"] >= 0.5 for one in found)
    tree = parse(comparisons.improvement(section, styles)[0])
    half = next(line for line in tree.iter("line") if line.get("class") == "half")
    assert half.get("x1") == half.get("x2") == "240"  # the middle of 164 .. 316


def test_a_paired_difference_has_the_better_row_first_and_marks_a_single_seed() -> None:
    section = make_section(rows=2)
    for one in section["paired"]:
        one["over"] = "starts"
    tree = parse(comparisons.paired(section, styles_of(section))[0])
    texts = [text for text in tree.itertext() if "gloma" in text or "[" in text]
    assert texts == [
        "gloma − transformer",
        "3.0 [−1.0, 7.0]s",
        "gloma minus transformer: 3.0, 95 % interval -1.0 to 7.0 over starts",
    ]
    section["paired"] = []
    assert comparisons.paired(section, styles_of(section)) == []


def test_of_many_pairs_only_those_of_the_first_row_are_drawn() -> None:
    many = make_section(rows=8)
    assert len(comparisons.pairs(many, styles_of(many))) == 28
    tree = parse(comparisons.improvement(many, styles_of(many))[0])
    names = [text for text in tree.itertext() if re.fullmatch(r"[\w…]+ > [\w…]+", text)]
    assert names == [f"gloma > {row['label']}" for row in many["rows"][1:]]


def test_the_front_is_ringed_and_joined() -> None:
    section = make_section(rows=3)
    ids = [row["id"] for row in section["rows"]]
    for row, parameters, value in zip(section["rows"], (1e5, 1e4, 1e6), (60.0, 50.0, 40.0), strict=True):
        row["cost"] = {"parameters": parameters}
        row["aggregates"]["iqm"] = {"value": value, "low": None, "high": None, "over": None, "n": 1}
    section["pareto"] = {"parameters": ids[:2]}
    panels = comparisons.pareto(section, section["rows"], styles_of(section))
    assert len(panels) == 1
    tree = parse(panels[0])
    rings = [float(ring.get("cx", "")) for ring in tree.iter("circle") if ring.get("class") == "ring"]
    # A decade of two, from 1e4 / 100 ** .08 to 1e6 * 100 ** .08, on 56 .. 288: the middle one is 172.
    assert rings == pytest.approx([172.0, 172 - 232 / 2.32], abs=0.06)
    joined = [line for line in tree.iter("line") if line.get("class") == "front"]
    assert len(joined) == 1
    assert "log" in "".join(tree.itertext())
