"""One record on the page of its row."""

from __future__ import annotations

from html_document import Document
from record_factory import make_record
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.tables import to_view


def test_the_command_to_reproduce_is_safe_to_paste() -> None:
    view = make_view([make_section(rows=1, seeds=(0,), tasks=TASKS[:1])])
    for cell in view["cells"].values():
        cell["record"]["identity"]["suite"] = "x; rm -rf ~"
    page = Document(build(view, "leaderboard/published/records")["rows/d4rl-embedded-quick-window-row-0.html"])
    assert any(part.startswith("bench reproduce 'leaderboard/published/records/x; rm -rf ~/") for part in page.texts)


def test_a_failed_cell_has_no_command_to_reproduce_it() -> None:
    records = [make_record("mlp", failed="x"), make_record("mlp", seed=1)]
    page = build(to_view(build_board(records), records), "leaderboard/published/records")
    text = Document(next(page[file] for file in page if file.startswith("rows/"))).text
    assert text.count("A failed cell has no score to reproduce.") == 1
    assert text.count("bench reproduce leaderboard/published/records/d4rl/") == 1
