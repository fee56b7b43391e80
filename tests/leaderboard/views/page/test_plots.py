"""Scales, ticks and positions against numbers worked out by hand."""

from __future__ import annotations

import copy
import re
from itertools import combinations, pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_factory import TASKS, make_section

from backbench.leaderboard.views.page import plots
from backbench.leaderboard.views.page.markup import asset
from backbench.leaderboard.views.page.panel import MARKERS, Look, shorten
from backbench.leaderboard.views.page.scales import (
    Scale,
    axis,
    exact,
    log_ticks,
    number,
    numbers,
    points,
    position,
    span,
    ticks,
)

CSS = asset("page.css")


def looks_of(section: dict[str, Any]) -> dict[str, Look]:
    return {row["id"]: Look(row["id"], row["label"], index) for index, row in enumerate(section["rows"])}


def parse(svg: str) -> ElementTree.Element:
    """The panel as a tree; it is well-formed XML as well."""
    return ElementTree.fromstring(svg)


def test_a_linear_scale() -> None:
    scale = Scale(10, 30, 100, 300)
    assert [scale(value) for value in (10, 15, 30)] == [100, 150, 300]
    assert [scale(value) for value in (-5, 99)] == [100, 300]  # drawn at the edge
    assert Scale(0, 1, 200, 40)(0.25) == 160  # upwards on the page is downwards in numbers


def test_a_logarithmic_scale() -> None:
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
def test_ticks(low: float, high: float, count: int, expected: list[float]) -> None:
    assert ticks(low, high, count) == expected


def test_logarithmic_ticks() -> None:
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


def test_how_numbers_are_written() -> None:
    assert [number(value) for value in (0, 1500, 26_000, 3.5e6, 2e9, -4200, 0.0042)] == [
        "0", "1.5k", "26k", "3.5M", "2G", "−4.2k", "0.0042",
    ]  # fmt: skip
    assert [exact(value) for value in (263_622, 22687.06, 1.29227, 400.0)] == ["263,622", "22,687", "1.29", "400"]
    assert numbers([580.0, 580.5, 581.0]) == ["580", "580.5", "581"]
    assert numbers([0.0, 1000.0, 1500.0]) == ["0", "1k", "1.5k"]
    assert numbers([1.0, 1.0]) == ["1", "1"]
    assert [points(value) for value in (53.84, -0.04, -3.26, None)] == ["53.8", "0.0", "−3.3", "—"]
    assert [position(value) for value in (12.0, 12.34, -0.01)] == ["12", "12.3", "0"]


def test_an_interval_is_drawn_where_it_belongs() -> None:
    section = make_section(rows=2)
    first, second = section["rows"]
    first["aggregates"]["iqm"] = {"value": 50.0, "low": 40.0, "high": 60.0, "over": "seeds", "n": 3}
    second["aggregates"]["iqm"] = {"value": 30.0, "low": 20.0, "high": 45.0, "over": "seeds", "n": 3}
    panels = plots.aggregates(section["rows"], looks_of(section))
    assert len(panels) == 4
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


def test_plots_say_what_they_are() -> None:
    section = make_section()
    rows, looks = section["rows"], looks_of(section)
    counts = {
        "aggregates": (plots.aggregates(rows, looks), 4),
        "profiles": (plots.profiles(rows, looks), 1),
        "improvement": (plots.improvement(section, looks), 1),
        "pareto": (plots.pareto(section, rows, looks), 8),
        "curves": (plots.curves(section, rows, looks), 9),
        "evaluations": (plots.evaluations(section, rows, looks), 2),
        "targets": (plots.targets(section, rows, looks), 9),
    }
    for name, (panels, expected) in counts.items():
        assert len(panels) == expected, name
        for panel in panels:
            tree = parse(panel)
            assert tree.get("role") == "img"
            assert tree.findtext("title")
            assert tree.findtext("desc")
            width, height = (float(value) for value in tree.get("viewBox", "").split()[2:])
            for mark in [*tree.iter("circle"), *tree.iter("text")]:
                x, y = (float(mark.get(f"c{way}") or mark.get(way) or -1) for way in "xy")
                assert 0 <= x <= width, name
                assert 0 <= y <= height, name


def test_a_row_is_known_without_its_colour() -> None:
    looks = [Look(f"r{index}", f"row {index}", index) for index in range(12)]
    shapes = {(index % len(MARKERS), look.dash, look.colour) for index, look in enumerate(looks)}
    assert len(shapes) == 12
    marks = [re.sub(r"k\d|r\d+", "", look.marker(0, 0)) for look in looks]
    assert len(set(marks[: len(MARKERS)])) == len(MARKERS)


def test_the_profile_falls_from_one_to_nothing() -> None:
    section = make_section(rows=1)
    row = section["rows"][0]
    row["profile"] = {"tau": [0.0, 50.0, 100.0], "share": [1.0, 0.25, 0.0], "low": None, "high": None}
    tree = parse(plots.profiles([row], looks_of(section))[0])
    line = next(line for line in tree.iter("polyline"))
    # 46 .. 428 across; 260 (nothing) .. 40 (all) upwards.
    assert line.get("points") == "46,40 237,205 428,260"
    assert not list(tree.iter("polygon"))


def test_each_pair_is_compared_once_and_the_better_comes_first() -> None:
    section = make_section(rows=3)
    looks = looks_of(section)
    found = plots.pairs(section, looks)
    ids = [row["id"] for row in section["rows"]]
    assert [(one["x"], one["y"]) for one in found] == [(ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2])]
    assert all(one["probability"] >= 0.5 for one in found)
    tree = parse(plots.improvement(section, looks)[0])
    half = next(line for line in tree.iter("line") if line.get("class") == "half")
    assert half.get("x1") == half.get("x2") == "240"  # the middle of 164 .. 316
    many = make_section(rows=8)
    first = many["rows"][0]["id"]
    assert [one["x"] for one in plots.pairs(many, looks_of(many))] == [first] * 7


def test_the_front_is_ringed_and_joined() -> None:
    section = make_section(rows=3)
    ids = [row["id"] for row in section["rows"]]
    for row, parameters, value in zip(section["rows"], (1e5, 1e4, 1e6), (60.0, 50.0, 40.0), strict=True):
        row["cost"] = {"parameters": parameters}
        row["aggregates"]["iqm"] = {"value": value, "low": None, "high": None, "over": None, "n": 1}
    section["pareto"] = {"parameters": ids[:2]}
    panels = plots.pareto(section, section["rows"], looks_of(section))
    assert len(panels) == 1
    tree = parse(panels[0])
    rings = [float(ring.get("cx", "")) for ring in tree.iter("circle") if ring.get("class") == "ring"]
    # A decade of two, from 1e4 / 100 ** .08 to 1e6 * 100 ** .08, on 56 .. 288: the middle one is 172.
    assert rings == pytest.approx([172.0, 172 - 232 / 2.32], abs=0.06)
    joined = [line for line in tree.iter("line") if line.get("class") == "front"]
    assert len(joined) == 1
    assert "log" in "".join(tree.itertext())


def test_clipped_targets_have_no_diagonal() -> None:
    section = make_section(rows=1, tasks=TASKS[:1])
    clipped = copy.deepcopy(section)
    clipped["task_settings"][TASKS[0]]["returns_to_go"] = "clipped"
    for one, expected in ((section, 1), (clipped, 0)):
        panel = plots.targets(one, one["rows"], looks_of(one))[0]
        assert panel.count('class="half"') == expected


def test_curves_are_thinned_to_their_ends() -> None:
    line = [[step, 1.0] for step in range(1000)]
    thinned = plots.thin(line, 40)
    assert len(thinned) == 40
    assert (thinned[0], thinned[-1]) == (line[0], line[-1])
    assert plots.thin(line[:7], 40) == line[:7]


def test_nothing_to_draw() -> None:
    section = make_section(rows=1)
    row = section["rows"][0]
    row |= {"aggregates": None, "profile": None, "curves": {}, "evaluations": {}, "targets": {}}
    section["improvement"] = []
    looks = looks_of(section)
    for panels in (
        plots.aggregates([row], looks),
        plots.profiles([row], looks),
        plots.improvement(section, looks),
        plots.pareto(section, [row], looks),
        plots.curves(section, [row], looks),
        plots.evaluations(section, [row], looks),
        plots.targets(section, [row], looks),
    ):
        assert panels == []


def test_long_names_are_cut() -> None:
    assert shorten("transformer", 14) == "transformer"
    assert shorten("mamba (match=params:transformer)", 14) == "mamba (…)"
    assert shorten("a-backbone-of-somebody", 14) == "a-backbone-of…"


# Machado et al. 2009, severity 1: linear RGB as seen without the long, the middle or the short cones.
VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    share = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_are_told_apart_without_some_of_the_cones() -> None:
    palettes = re.findall(
        r"--panel: (#\w+);.*?" + "".join(rf"--c{index}: (#\w+);.*?" for index in range(8)), CSS, re.DOTALL
    )
    assert len(palettes) == 3
    assert palettes[1] == palettes[2]  # chosen by button or by the system
    for panel, *colours in palettes:
        ground = linear(panel if len(panel) == 7 else "#" + panel[1:] * 2) @ XYZ[1]  # "#fff"
        for vision in VISIONS:
            seen = [lab(vision @ linear(colour)) for colour in colours]
            assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 10
        for colour in colours:
            dim, bright = sorted((ground, linear(colour) @ XYZ[1]))
            assert (bright + 0.05) / (dim + 0.05) > 3
