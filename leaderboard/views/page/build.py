"""The pages of a view (see ``backbench.leaderboard.views.tables``): the same view gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backbench.leaderboard.views.page.head import footer, header, nothing, switches
from backbench.leaderboard.views.page.markup import document, el, join, row_file, section_id
from backbench.leaderboard.views.page.rows import row_page
from backbench.leaderboard.views.page.section import Detail, section_part
from backbench.leaderboard.views.page.words import PURPOSE

LIMIT = 500_000
"""Bytes that index.html stays under."""
SECTIONS = 40
"""More tables than that are not tried to get below it."""

View = Mapping[str, Any]


# A view that is too large loses what row pages and the CSV view have as well, the least telling first.
DETAILS = (
    Detail(),
    Detail(small=False),
    Detail(False, False),
    *(Detail(False, False, rows) for rows in (100, 30, 10, 3)),
)


def build(view: View, folder: str | None = None) -> dict[str, str]:
    """Pages by file name: ``index.html``, under ``LIMIT`` bytes, and ``rows/<row id>.html`` for each row.

    Each page is whole by itself: nothing is loaded from anywhere, and everything can be read without a script.
    ``folder``: where the records are committed, for the commands that reproduce them. ``ValueError`` when an id in the
    view is no safe file name or is there twice.
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
            pages[file] = row_page(section, row, view["cells"], folder)
    count = min(len(sections), SECTIONS)  # those with most records come first
    for detail in DETAILS:
        index = _index(view, detail, count)
        if len(index.encode()) < LIMIT:
            return {"index.html": index, **pages}
    while len(index.encode()) >= LIMIT and count:
        count //= 2
        index = _index(view, DETAILS[-1], count)
    return {"index.html": index, **pages}


def _index(view: View, detail: Detail, count: int) -> str:
    """The page with the first ``count`` sections."""
    sections = view["sections"][:count]
    left = len(view["sections"]) - count
    says = f"{left} more tables are not on this page: it would be too large. The CSV and JSON views have all."
    body = join(
        el("a", {"class": "skip", "href": "#main"}, "Skip to the tables"),
        header(view),
        el("p", {"class": "warn"}, says) if left else None,
        switches(sections) if sections else None,
        el(
            "main",
            {"id": "main", "tabindex": "-1"},
            [section_part(section, sections, detail) for section in sections] if sections else nothing(),
        ),
        footer(),
    )
    return document("Backbench leaderboard", PURPOSE, body)
