"""The plots of a section."""

from __future__ import annotations

from html_document import Document
from record_factory import full_suite
from view_factory import make_section, make_view

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.tables import to_view


def test_the_page_says_which_pairs_are_decided_and_which_are_not_drawn() -> None:
    few, many = (build(make_view([make_section("s", count)]))["index.html"] for count in (6, 7))
    assert "pairs: the plots show only" not in few
    assert "There are more than 15 pairs: the plots show only those of the first row." in many
    clear = full_suite("a", 40.0) + full_suite("b", 60.0) + full_suite("c", 60.0)
    text = Document(build(to_view(build_board(clear), clear))["index.html"]).text
    assert "Decided at 95 % each: b over a; c over a. Undecided: 1 of 3 pairs" in text


def test_the_page_says_which_costs_have_no_front_and_how_they_were_measured() -> None:
    section = make_section(rows=2)
    assert "No front for" not in build(make_view([section]))["index.html"]
    section["undecided_costs"] = ["peak_memory_mb", "wall_seconds"]
    text = Document(build(make_view([section]))["index.html"]).text
    assert "No front for peak memory, wall time: rows differ by less than 5%." in text
    assert "Costs: medians over a row's cells, measured on a CPU." in text


def test_a_section_without_aggregates_says_why() -> None:
    section = make_section(rows=1)
    section["rows"][0] |= {"aggregates": None, "profile": None}
    section |= {"improvement": [], "complete": False}
    text = Document(build(make_view([section]))["index.html"]).text
    assert "No row has every task with a common seed, so there are no aggregates." in text
    assert "Learning curves" in text
