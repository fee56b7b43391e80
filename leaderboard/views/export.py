"""The leaderboard's pages from its records: Markdown, CSV, JSON and HTML. Equal records give equal bytes."""

import io
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backbench import reading, terminal
from backbench.files import write_whole
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.files import FOLDER, Published, RecordError, load_record, load_records, uncollected
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import reproduced_cells
from backbench.leaderboard.views.latex import to_latex
from backbench.leaderboard.views.page.build import build
from backbench.leaderboard.views.plots import pdf_of, plots_of
from backbench.leaderboard.views.studies import Report, reports_of
from backbench.leaderboard.views.tables import to_csv, to_json, to_view
from backbench.leaderboard.views.text import to_markdown, to_rich

MEND = "make leaderboard"
REPOSITORY = "../../.."  # from the committed pages to the repository's root
FORMATS = ("terminal", "markdown", "csv", "json", "latex", "html", "svg", "pdf")
FOLDERS = ("html", "svg", "pdf")  # those that write a folder
_OURS = re.compile(r"board\.(md|csv|json)|index\.html|(rows|studies)/[^/]+\.html")
_SAFE = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-][A-Za-z0-9._-]*")


def pages_of(
    records: Sequence[Record],
    verifications: Sequence[Record] = (),
    folder: str | None = str(FOLDER),
    repository: str | None = REPOSITORY,
    studies: Sequence[Report] = (),
) -> dict[str, str]:
    """Path below the folder of pages -> text, of all pages; a pure function of the records and reports of ``studies``.
    ``folder``: where the records are committed, below the root of a repository; None if they are not. ``repository``:
    path from the folder of pages to that root, for links to the documentation; None: the pages lie elsewhere."""
    board = build_board(records, reproduced=reproduced_cells(records, verifications))
    view = to_view(board, records)
    texts = {"board.md": to_markdown(board), "board.csv": to_csv(view), "board.json": to_json(view)}
    return texts | build(view, folder, repository, studies)


@uncollected()
def export(
    records: Sequence[Record], format_: str, out: Path | None = None, verifications: Sequence[Record] = ()
) -> None:
    """Print the board of ``records`` in one of ``FORMATS``, or write it to the file ``out``, for ``FOLDERS`` a folder.
    Raises ``RecordError`` for one of these without a folder, or ``html`` with one that holds foreign files, and
    ``OSError``."""
    if format_ in FOLDERS and out is None:
        raise RecordError(f"--format {format_}", "writes a folder", "name it with --out")
    if format_ == "html" and out is not None:
        write_pages(pages_of(records, verifications, folder=None, repository=None), out)
        return
    board = build_board(records, reproduced=reproduced_cells(records, verifications))
    if format_ == "terminal":
        file = None if out is None else io.StringIO()
        console = terminal.console(file=file, width=None if out is None else 100)
        console.print(to_rich(board, console.width))
        if file is None:
            return
        text = file.getvalue()
    elif format_ == "markdown":
        text = to_markdown(board)
    else:
        view = to_view(board, records)
        if format_ in FOLDERS and out is not None:
            for name, plot in plots_of(view).items():
                write_whole(out / f"{name}.{format_}", plot if format_ == "svg" else pdf_of(plot))
            return
        text = {"csv": to_csv, "json": to_json, "latex": to_latex}[format_](view)
    if out is None:
        terminal.write(text if text.endswith("\n") else f"{text}\n")
    else:
        write_whole(out, text)


def render(published: Published, pages: Path | None = None) -> list[str]:
    """Write the pages of a leaderboard, all or none, and remove stale ones. Their names, sorted.
    Raises ``RecordError`` for a broken record or a folder that holds foreign files, and ``OSError``."""
    found, errors = load_records(published.records)
    if errors:
        raise errors[0]
    others = verifications_of(published.records)
    committed = pages is None or pages.resolve() == published.pages.resolve()  # else links to the docs would break
    texts = pages_of(found, others, repository=REPOSITORY if committed else None, studies=reports_of(published.studies))
    write_pages(texts, pages or published.pages)
    return sorted(texts)


def verifications_of(given: Path) -> list[Record]:
    """The verifications beside the records ``given``, by path. Raises ``RecordError`` for a broken one."""
    folder = Published.around(given).verifications
    return [load_record(path) for path in sorted(folder.rglob("*.json")) if not path.name.startswith(".")]


def stale(texts: Mapping[str, str], pages: Path) -> list[str]:
    """How the files in ``pages`` differ from ``texts``, a line each."""
    there = _files(pages)
    said = dict.fromkeys(there, "no record makes it") | dict.fromkeys(texts, "is missing")
    for name in {*there} & {*texts}:
        said[name] = "" if _holds(pages / name, texts[name].encode()) else "is not what the records make"
    return [f"{pages / name}: {what}; {MEND}" for name, what in sorted(said.items()) if what]


def _holds(path: Path, expected: bytes) -> bool:
    try:
        return reading.content(path, len(expected)) == expected
    except reading.ReadingError:  # longer, or no file
        return False


def write_pages(texts: Mapping[str, str], pages: Path) -> None:
    """Replace ``pages`` by a folder with exactly these files, or change nothing.
    Raises ``RecordError`` for a file, or a folder that holds other files than pages, which would be lost,
    ``ValueError`` for a name that no page may have, and ``OSError`` if it cannot be written."""
    pages = pages.resolve()
    for name in texts:
        if not _SAFE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a page")
    if foreign := ["it is no folder"] if pages.is_file() else [n for n in _files(pages) if not _OURS.fullmatch(n)]:
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
