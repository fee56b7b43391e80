"""The leaderboard's pages from its records: Markdown, CSV, JSON and HTML, equal bytes for equal records.

Needs NumPy, pydantic and rich; no torch and no simulator, so that anyone can make them from a clone.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.files import RecordError, load_records
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.submit import read
from backbench.leaderboard.trust.verify import verified_cells

MEND = "make leaderboard"
REPOSITORY = "../../.."  # from the committed pages to the repository's root
FORMATS = ("terminal", "markdown", "csv", "json", "html")
_OURS = re.compile(r"board\.(md|csv|json)|index\.html|rows/[^/]+\.html")
_SAFE = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-][A-Za-z0-9._-]*")


def pages_of(
    records: Sequence[Record],
    verifications: Sequence[Record] = (),
    folder: str | None = "leaderboard/published/records",
    repository: str | None = REPOSITORY,
) -> dict[str, str]:
    """Path below the folder of pages -> text, of all pages; a pure function of the records.

    ``folder``: where the records are committed, below the root of a repository; None: nowhere. ``repository``: path
    from the folder of pages to that root, for links to the documentation; None: the pages lie elsewhere.
    """
    from backbench.leaderboard.views.page.build import build
    from backbench.leaderboard.views.tables import to_csv, to_json, to_view
    from backbench.leaderboard.views.text import to_markdown

    board = build_board(records, verified=verified_cells(records, verifications))
    view = to_view(board, records)
    texts = {"board.md": to_markdown(board), "board.csv": to_csv(view), "board.json": to_json(view)}
    return {**texts, **build(view, folder, repository)}


def export(
    records: Sequence[Record], format_: str, out: Path | None = None, verifications: Sequence[Record] = ()
) -> None:
    """Print the board of ``records`` in one of ``FORMATS``, or write it to the file ``out``, for ``html`` a folder.

    Raises:
        RecordError: ``html`` without a folder, or one that holds something else than pages.
        OSError: ``out`` cannot be written; nothing of it was.
    """
    from rich.console import Console

    from backbench.leaderboard.views.tables import to_csv, to_json, to_view
    from backbench.leaderboard.views.text import to_markdown, to_rich

    if format_ == "html":
        if out is None:
            raise RecordError("--format html", "writes a folder", "name it with --out")
        write_pages(pages_of(records, verifications, folder=None, repository=None), out)
        return
    board = build_board(records, verified=verified_cells(records, verifications))
    if format_ == "terminal":
        console = Console() if out is None else Console(file=io.StringIO(), width=100)
        console.print(to_rich(board, console.width))
        if out is None:
            return
        text = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    elif format_ == "markdown":
        text = to_markdown(board)
    else:
        text = (to_csv if format_ == "csv" else to_json)(to_view(board, records))
    if out is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        beside.write_bytes(text.encode())
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)


def render(records: Path, verifications: Path, pages: Path) -> list[str]:
    """Write the pages of the records below ``records``, whole or not at all; what is stale goes. Their names, sorted.

    Raises:
        RecordError: a record or a verification is broken, or ``pages`` holds something else than pages.
        OSError: ``pages`` cannot be written.
    """
    found, errors = load_records(records)
    if errors:
        raise errors[0]
    others = read_verifications(verifications)
    committed = pages.resolve() == records.resolve().parent / "pages"  # elsewhere, links to the documents would break
    texts = pages_of(found, others) if committed else pages_of(found, others, repository=None)
    write_pages(texts, pages)
    return sorted(texts)


def read_verifications(folder: Path) -> list[Record]:
    """The records below a folder of verifications, in the order of paths; of one cell there may be several.

    None where there is no such folder. Raises ``RecordError`` for a broken one.
    """
    return [read(path)[1] for path in sorted(folder.rglob("*.json")) if not path.name.startswith(".")]


def verifications_of(given: Path) -> list[Record]:
    """The verifications that lie beside the records of a leaderboard, whichever of the two folders is given."""
    around = given if (given / "records").is_dir() else given.parent
    return read_verifications(around / "verifications")


def stale(texts: Mapping[str, str], pages: Path) -> list[str]:
    """How the files in ``pages`` differ from ``texts``, a line each."""
    lines = []
    there = _files(pages)
    for name in sorted({*texts, *there}):
        if name not in there:
            lines.append(f"{pages / name}: is missing; {MEND}")
        elif name not in texts:
            lines.append(f"{pages / name}: no record makes it; {MEND}")
        elif (pages / name).read_bytes() != texts[name].encode():
            lines.append(f"{pages / name}: is not what the records make; {MEND}")
    return lines


def write_pages(texts: Mapping[str, str], pages: Path) -> None:
    """Put a folder with exactly these files in the place of ``pages``: whole, or not at all.

    Raises:
        RecordError: ``pages`` is a file, or a folder that holds something else than pages, which would be lost.
        ValueError: a name that is no name of a page.
        OSError: it cannot be written; what was there is there still.
    """
    pages = pages.resolve()
    for name in texts:
        if not _SAFE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a page")
    foreign = ["it is no folder"] if pages.is_file() else [n for n in _files(pages) if not _OURS.fullmatch(n)]
    if foreign:
        raise RecordError(pages.name, f"holds no pages only: {foreign[0]}", "name an empty folder, or a new one")
    pages.parent.mkdir(parents=True, exist_ok=True)
    for left in pages.parent.glob(f".{pages.name}.*.tmp"):  # of a render that was killed
        shutil.rmtree(left, ignore_errors=True)
    fresh, old = (pages.with_name(f".{pages.name}.{uuid.uuid4().hex}.tmp") for _ in range(2))
    try:
        for name, text in texts.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_bytes(text.encode())
        if pages.exists():
            os.rename(pages, old)
        try:
            os.rename(fresh, pages)
        except OSError:
            with suppress(FileNotFoundError):
                os.rename(old, pages)
            raise
    finally:
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
