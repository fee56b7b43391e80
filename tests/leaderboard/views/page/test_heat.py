"""The shaded table of all rows by all tasks."""

from __future__ import annotations

from html_document import Document
from view_factory import make_section, make_view

from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.page.heat import LISTED, heat


def test_a_score_is_darker_towards_100() -> None:
    section = make_section(rows=3)
    first, second, third = section["rows"]
    task, other = section["tasks"][:2]
    first["scores"][task]["value"], second["scores"][task]["value"], third["scores"][task]["value"] = 104.4, 50.0, -3.2
    del third["scores"][other]
    (table,) = heat(section, section["rows"])
    found = Document(str(table))
    cells = [one.get("class") for one in found.of("td")][1:]  # the first one is the corner
    assert len(cells) == 3 * len(section["tasks"])
    assert cells[:: len(section["tasks"])] == ["s10", "s5", None]
    assert cells[2 * len(section["tasks"]) + 1] is None
    for said in ("104", "50", "−3", "Scores of all tasks"):
        assert said in found.text


def test_one_row_one_task_or_no_scale_have_no_picture() -> None:
    assert heat(make_section(rows=1), make_section(rows=1)["rows"]) == []
    single = make_section(rows=3, tasks=("hopper-medium",))
    assert heat(single, single["rows"]) == []
    raw = make_section(rows=3) | {"normaliser": "none"}
    assert heat(raw, raw["rows"]) == []


def test_it_stands_on_the_page_with_the_decided_pairs() -> None:
    section = make_section(rows=3)
    first, second, _ = section["rows"]
    pair = {"task": "hopper-medium", "better": first["id"], "worse": second["id"], "low": 41.4, "high": 60.2}
    section |= {"decided": [pair], "decided_of": 27}
    text = Document(build(make_view([section]))["index.html"]).text
    assert "Rows by tasks" in text
    assert "1 of 27 pairs are decided on single tasks" in text
    assert "41 to 60" in text


def test_many_decided_pairs_are_counted_by_row_and_task() -> None:
    section = make_section(rows=3)
    first, second, third = (row["id"] for row in section["rows"])
    pair = {"task": "hopper-medium", "low": 41.4, "high": 60.2}
    pairs = [pair | {"better": first, "worse": second}, pair | {"better": first, "worse": third}]
    section |= {"decided": pairs * LISTED, "decided_of": 900}
    text = Document(build(make_view([section]))["index.html"]).text
    assert f"{2 * LISTED} / 0" in text
    assert f"0 / {LISTED}" in text
    assert "41 to 60" not in text
