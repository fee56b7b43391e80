"""The pages of studies: their reports, with pictures inside, and nothing from a report that could run."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from html_document import Document
from record_factory import make_record

from backbench.leaderboard.record.files import Published, RecordError, dump_record
from backbench.leaderboard.views.export import pages_of, render
from backbench.leaderboard.views.page.report import report_page
from backbench.leaderboard.views.studies import MOST, Report, reports_of

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'
TEXT = """# Study: ablation

**A claim.** *Open*: `+1.0` (see https://arxiv.org/abs/2406.02013).

![What it shows](score.svg)
![Nowhere](gone.svg)

| arm | score |
|---|---:|
| both | 1.0 |
"""


def test_a_report_is_a_page_with_its_pictures() -> None:
    page = report_page(Report("ablation", TEXT, {"score.svg": SVG}), None)
    Document(page)  # every element is closed
    picture = f'src="data:image/svg+xml;base64,{b64encode(SVG.encode()).decode()}" alt="What it shows"'
    for part in ("<h1>Study: ablation</h1>", picture, "Nowhere", '<table class="plain">', "img-src data:;"):
        assert page.count(part) == 1, part
    assert "gone.svg" not in page
    assert "img-src" not in pages_of([make_record()])["index.html"]


def test_nothing_in_a_report_runs() -> None:
    nasty = (
        "# <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1)) ![b](http://c/d.svg)"
    )
    page = report_page(Report("ablation", nasty, {}), None)
    for part in ("<script>alert", "<img", 'href="javascript', "http://c/"):
        assert part not in page


def test_the_index_links_to_studies(tmp_path: Path) -> None:
    published = Published(tmp_path / "records")
    dump_record(make_record(), published.records / "one.json")
    (published.studies / "reach").mkdir(parents=True)
    (published.studies / "reach" / "report.md").write_text(TEXT)
    (published.studies / "reach" / "score.svg").write_text(SVG)
    assert "studies/reach.html" in render(published)
    assert '<a href="studies/reach.html">reach</a>' in (published.pages / "index.html").read_text()


@pytest.mark.parametrize(
    ("folder", "text", "says"), [("..x", "# A", "no name"), ("reach", "x" * (MOST + 1), "the limit is")]
)
def test_a_broken_report_is_refused_in_one_line(tmp_path: Path, folder: str, text: str, says: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "report.md").write_text(text)
    with pytest.raises(RecordError, match=says) as caught:
        reports_of(tmp_path)
    assert "\n" not in str(caught.value)
