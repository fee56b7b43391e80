"""Plots of single tasks, and what holds for every plot."""

from __future__ import annotations

import copy

from plot_tools import parse, styles_of
from view_factory import TASKS, make_section

from backbench.leaderboard.views.page.plots import comparisons, tasks


def test_every_plot_has_a_title_a_description_and_all_marks_inside() -> None:
    section = make_section()
    rows, styles = section["rows"], styles_of(section)
    counts = {
        "aggregates": (comparisons.aggregates(rows, styles), 2),
        "profiles": (comparisons.profiles(rows, styles), 1),
        "improvement": (comparisons.improvement(section, styles), 1),
        "paired": (comparisons.paired(section, styles), 1),
        "pareto": (comparisons.pareto(section, rows, styles), 4),
        "curves": (tasks.courses("curves", section, rows, styles), 9),
        "evaluations": (tasks.courses("evaluations", section, rows, styles), 2),
        "targets": (tasks.targets(section, rows, styles), 9),
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


def test_clipped_targets_have_no_diagonal() -> None:
    section = make_section(rows=1, tasks=TASKS[:1])
    clipped = copy.deepcopy(section)
    clipped["task_settings"][TASKS[0]]["returns_to_go"] = "clipped"
    for one, expected in ((section, 1), (clipped, 0)):
        panel = tasks.targets(one, one["rows"], styles_of(one))[0]
        assert panel.count('class="half"') == expected


def test_thinned_curves_keep_their_ends() -> None:
    line = [[step, 1.0] for step in range(1000)]
    thinned = tasks.thin(line, 40)
    assert len(thinned) == 40
    assert (thinned[0], thinned[-1]) == (line[0], line[-1])
    assert tasks.thin(line[:7], 40) == line[:7]


def test_a_row_without_numbers_gives_no_panels() -> None:
    section = make_section(rows=1)
    row = section["rows"][0]
    row |= {"aggregates": None, "profile": None, "curves": {}, "evaluations": {}, "targets": {}}
    section["improvement"] = []
    styles = styles_of(section)
    for panels in (
        comparisons.aggregates([row], styles),
        comparisons.profiles([row], styles),
        comparisons.improvement(section, styles),
        comparisons.pareto(section, [row], styles),
        tasks.courses("curves", section, [row], styles),
        tasks.courses("evaluations", section, [row], styles),
        tasks.targets(section, [row], styles),
    ):
        assert panels == []
