"""The picture of all rows by all tasks."""

from __future__ import annotations

from html_document import Document
from view_factory import make_section, make_view

from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.page.plots.heat import DARKEST, heat


def test_a_square_for_each_row_and_task_is_darker_towards_100() -> None:
    section = make_section(rows=3)
    first, second, third = section["rows"]
    task, other = section["tasks"][:2]
    first["scores"][task]["value"], second["scores"][task]["value"], third["scores"][task]["value"] = 104.4, 50.0, -3.2
    del third["scores"][other]
    (picture,) = heat(section, section["rows"])
    found = Document(str(picture))
    squares = [one for one in found.of("rect") if one.get("class") == "hs"]
    assert len(squares) == 3 * len(section["tasks"]) - 1
    mine = {one["data-row"]: float(one["fill-opacity"] or "nan") for one in squares[:: len(section["tasks"])]}
    assert mine == {first["id"]: DARKEST, second["id"]: round(DARKEST / 2, 3), third["id"]: 0.0}
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
