"""The pages of a view (see ``backbench.leaderboard.tables``): the same view gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backbench.leaderboard.page.head import footer, header, nothing, switches
from backbench.leaderboard.page.markup import document, el, join, row_file, section_id
from backbench.leaderboard.page.rows import row_page
from backbench.leaderboard.page.section import Detail, section_part
from backbench.leaderboard.page.words import PURPOSE

LIMIT = 500_000
"""Bytes that index.html stays under."""

View = Mapping[str, Any]


# A view that is too large loses what row pages and the CSV view have as well, the least telling first.
DETAILS = (
    Detail(),
    Detail(small=False),
    Detail(False, False),
    *(Detail(False, False, rows) for rows in (100, 30, 10, 3)),
)


def build(view: View) -> dict[str, str]:
    """Pages by file name: ``index.html``, under ``LIMIT`` bytes, and ``rows/<row id>.html`` for each row.

    Each page is whole by itself: nothing is loaded from anywhere, and everything can be read without a script.
    ``ValueError`` when an id in the view is no safe file name, is there twice, or no cut makes the page small enough.
    """
    pages: dict[str, str] = {}
    sections = view["sections"]
    if len({section_id(section) for section in sections}) != len(sections):
        raise ValueError("two sections have the same id")
    for section in sections:
        for row in section["rows"]:
            file = row_file(row)
            if file in pages:
                raise ValueError(f"row id {row['id']!r} is there twice")
            pages[file] = row_page(section, row, view["cells"])
    for detail in DETAILS:
        index = _index(view, detail)
        if len(index.encode()) < LIMIT:
            return {"index.html": index, **pages}
    raise ValueError(f"index.html has {len(index.encode())} bytes; it must stay under {LIMIT}: too many sections")


def _index(view: View, detail: Detail) -> str:
    sections = view["sections"]
    body = join(
        el("a", {"class": "skip", "href": "#main"}, "Skip to the tables"),
        header(view),
        switches(sections) if sections else None,
        el(
            "main",
            {"id": "main", "tabindex": "-1"},
            [section_part(section, sections, detail) for section in sections] if sections else nothing(),
        ),
        footer(),
    )
    return document("Backbench leaderboard", PURPOSE, body)
