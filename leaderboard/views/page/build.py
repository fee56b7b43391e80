"""The pages of a view (see ``backbench.leaderboard.views.tables``). Equal views give equal bytes."""

from collections.abc import Sequence

from backbench.leaderboard.views.page.index import index
from backbench.leaderboard.views.page.markup import View, row_file, section_id
from backbench.leaderboard.views.page.report import report_file, report_page
from backbench.leaderboard.views.page.row import row_page
from backbench.leaderboard.views.page.section import Detail
from backbench.leaderboard.views.studies import Report

LIMIT = 500_000  # index.html has fewer bytes
SECTIONS = 40  # most tables on index.html
# A view that is too large loses first what row pages and the CSV view have as well.
DETAILS = (
    Detail(), Detail(single_tasks=False), Detail(single_tasks=False, drawn=6),
    *(Detail(single_tasks=False, plots=False, rows=rows) for rows in (None, 100, 30, 10, 3)),
)  # fmt: skip


def build(
    view: View, folder: str | None = None, repository: str | None = None, studies: Sequence[Report] = ()
) -> dict[str, str]:
    """Pages by file name: ``index.html``, under ``LIMIT`` bytes, ``rows/<row id>.html`` for each row, and
    ``studies/<name>.html`` for each report.

    Each page is one self-contained file, readable without its script.

    ``folder``: where the records are committed, below the repository's root, for the commands that reproduce them.
    ``repository``: path from index.html to the repository's root, for links to the documentation; None where the pages
    lie elsewhere. ValueError: an id in the view is not a safe file name, or is used twice.
    """
    pages: dict[str, str] = {"index.html": ""}
    sections = view["sections"]
    if len({section_id(section) for section in sections}) != len(sections):
        raise ValueError("two sections have the same id")
    above = None if repository is None else f"../{repository}"
    for section in sections:
        for row in section["rows"]:
            file = row_file(row)
            if file in pages:
                raise ValueError(f"two rows have the id {row['id']!r}")
            pages[file] = row_page(section, row, view["cells"], folder, above)
    pages |= {report_file(one.name): report_page(one, above) for one in studies}
    count = min(len(sections), SECTIONS)  # those with most records come first
    fewer = [(DETAILS[-1], count >> halvings) for halvings in range(1, count.bit_length() + 1)]
    for detail, shown in [*((detail, count) for detail in DETAILS), *fewer]:
        pages["index.html"] = index(view, detail, shown, repository, [one.name for one in studies])
        if len(pages["index.html"].encode()) < LIMIT:
            break
    return pages
