"""Pieces of several pages: tables, and links to the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from html_document import Document
from paths import ROOT
from results_folders import results_of
from view_factory import make_section, make_view
from whole_record import whole_record

from backbench.leaderboard.record.files import Published
from backbench.leaderboard.trust.submit import submit
from backbench.leaderboard.views.export import export, pages_of, render
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.page.parts import grid

DOCUMENTS = ("docs/README.md", "docs/board.md", "CONTRIBUTING.md")
RECORD = whole_record("mlp")


def links_of(page: str) -> list[str]:
    """Addresses outside the pages and the web."""
    found = [attrs["href"] or "" for attrs in Document(page).of("a")]
    return [href for href in found if href.partition("#")[0].endswith(DOCUMENTS)]


@pytest.mark.parametrize("file", ["index.html", "rows/d4rl-embedded-quick-window-row-0.html"])
def test_pages_in_the_repository_link_to_its_documents(file: str) -> None:
    pages = build(make_view([make_section(rows=1)]), repository="../../..")
    folder = (ROOT / "leaderboard" / "published" / "pages" / file).parent
    targets = [(folder / href.partition("#")[0]).resolve() for href in links_of(pages[file])]
    assert targets == [ROOT / document for document in DOCUMENTS]


@pytest.mark.parametrize("file", ["index.html", "rows/d4rl-embedded-quick-window-row-0.html"])
def test_pages_elsewhere_name_the_documents_without_links(file: str) -> None:
    page = build(make_view([make_section(rows=1)]))[file]
    assert links_of(page) == []
    text = Document(page).text
    assert "docs/README.md in the repository" in text
    assert "CONTRIBUTING.md in the repository" in text
    assert "docs/board.md" not in text  # it is about the committed board only


def test_rendering_links_only_from_beside_the_records(tmp_path: Path) -> None:
    published = Published(tmp_path / "records")
    submit(results_of(tmp_path / "results", RECORD), published.records)
    render(published)
    committed = (tmp_path / "pages" / "index.html").read_text()
    assert len(links_of(committed)) == 3
    assert committed == pages_of([RECORD])["index.html"]
    render(published, tmp_path / "site")
    assert links_of((tmp_path / "site" / "index.html").read_text()) == []
    export([RECORD], "html", tmp_path / "board")
    for page in (tmp_path / "board").rglob("*.html"):
        assert links_of(page.read_text()) == []


def test_a_table_names_its_lines_and_aligns_words_to_the_left() -> None:
    found = Document(grid("Caption", ("Task", "Score", "Reason"), [("a", 1.5, "<b>"), ("c", 2, "d")], left=(2,)))
    assert [attrs.get("scope") for attrs in found.of("th")] == ["col", "col", "col", "row", "row"]
    assert [attrs.get("class") for attrs in found.of("td")] == [None, "left", None, "left"]
    assert found.text == "CaptionTaskScoreReasona1.5<b>c2d"
    with pytest.raises(ValueError, match="zip"):
        grid("Caption", ("Task", "Score"), [("a",)])
