"""Published scores beside ours."""

from __future__ import annotations

from html_document import Document
from view_factory import make_section, make_view

from backbench.leaderboard.views.page import build


def test_published_scores_are_in_a_table_of_their_own() -> None:
    section = make_section(rows=1)
    note = "No difference to reported scores is formed: other data."
    section["notes"] = [note]
    found = Document(build(make_view([section]))["index.html"])
    assert "Decision Mamba" in found.text
    assert "reported" in found.text
    assert found.text.count(note) == 2  # among the notes and where the table would be
    assert "RATE (arXiv:2306.09459) Table 3 (secondary transcription)" in found.text
    section["reproduction"] = [
        {
            "row": section["rows"][0]["id"], "task": "hopper-medium", "ours": 61.0, "low": 58.0, "high": 64.0,
            "reported": 67.6, "difference": -6.6, "method": "DT", "citation": "RATE (arXiv:2306.09459)",
        }
    ]  # fmt: skip
    found = Document(build(make_view([section]))["index.html"])
    assert "Ours minus reported" in found.text
    assert "−6.6" in found.text
