"""The page of a row."""

from __future__ import annotations

from html_document import Document
from record_factory import make_record
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.tables import to_view


def test_a_row_page_has_the_complete_provenance() -> None:
    view = make_view([make_section(rows=2)])
    row = view["sections"][0]["rows"][1]
    found = Document(build(view, "leaderboard/published/records")[f"rows/{row['id']}.html"])
    records = [attrs["id"] for attrs in found.of("details") if attrs.get("class") == "record"]
    assert records == [f"record-{key}" for key in row["records"]]
    key = row["records"][4]
    assert f"bench reproduce leaderboard/published/records/d4rl/{key}.json" in found.texts
    assert "bench run --backbone transformer --suite d4rl" in found.texts
    for said in ("selective_scan: cpp", "Example CPU, 2 cores", "torch 2.9.0", "n_heads", "1201.00", "s0: "):
        assert said in found.text, said
    assert len([attrs for attrs in found.of("button") if "copy" in (attrs.get("class") or "")]) == 2 * len(records)


def test_scores_come_first_on_a_row_page() -> None:
    page = build(make_view([make_section(rows=1)]))["rows/d4rl-embedded-quick-window-row-0.html"]
    found = Document(page)
    heads = [page.index(f">{said}<") for said in ("IQM", "Scores", "Costs and setting", "Plots", "Where it ran")]
    assert heads == sorted(heads)
    assert "window acting, deterministic, 10 episodes per target" in found.text
    assert "Cells that another machine ran again, equal" in found.text


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
