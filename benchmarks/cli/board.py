"""``bench leaderboard`` and ``bench submit``: boards of records, and records into the leaderboard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from backbench import storage, terminal
from backbench.errors import UserError, suggest
from backbench.text import count


@contextmanager
def _mistakes() -> Iterator[None]:
    """A broken record or folder is a mistake of the user's: one line."""
    from backbench.leaderboard.record.files import RecordError

    try:
        yield
    except RecordError as error:
        raise UserError(str(error)) from error


def leaderboard(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of results or records. Default: results, or the leaderboard's with --check."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="terminal, markdown, csv, json, latex, html (pages), svg or pdf (plots).")
    ] = "terminal",
    out: Annotated[
        Path | None, typer.Option(help="File to write instead of printing; a folder for html, svg, pdf.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Look for problems in a leaderboard. Exits 1 if any.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: a warning counts as a problem.")] = False,
    since: Annotated[
        str | None, typer.Option(help="With --check: records may only have been added since this git revision.")
    ] = None,
) -> None:
    """Print or write the board of all records in one or more folders, or check a leaderboard."""
    from backbench.leaderboard.__main__ import run_check
    from backbench.leaderboard.record.files import FOLDER
    from backbench.leaderboard.views.export import FORMATS

    if format_ not in FORMATS:
        raise UserError(f"unknown format '{format_}'{suggest(format_, FORMATS)}")
    with _mistakes():
        if check:
            if out is not None or len(results or ()) > 1:
                raise UserError("--check: give one folder and no --out")
            raise typer.Exit(run_check((results or [FOLDER])[0], strict, since))
        if strict or since is not None:
            raise UserError("--strict and --since say what --check looks for: give --check too")
        raise typer.Exit(_export(results or [Path("results")], format_, out))


def _export(folders: Sequence[Path], format_: str, out: Path | None) -> int:
    """Write the board of all records in ``folders``. The exit status: 1 if a record is broken, 2 if all are, else 0."""
    from backbench.benchmarks.api.boards import read_records
    from backbench.leaderboard.views.export import export, verifications_of

    records, verifications, broken = [], [], 0
    for folder in map(storage.pull, folders):
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; run something first: bench run --backbone gloma --suite d4rl")
        good, bad = read_records(folder)
        records += good
        broken += bad
        verifications += verifications_of(folder)
    try:
        export(records, format_, out, verifications)
    except OSError as error:
        if out is None:  # standard output was closed, as by `| head`
            raise
        raise UserError(f"cannot write to {out}: {error.strerror}; choose another path with --out") from error
    if out is not None:
        terminal.line(f"written: {out / 'index.html' if format_ == 'html' else out}{'/' * (format_ in ('svg', 'pdf'))}")
    if broken:
        return 1 if records else 2
    return 0


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results, or addresses.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of results that gets their records; new, or with records.")],
) -> None:
    """Join folders of results: records, failures and weights. If two records of a cell differ, nothing is written."""
    from backbench.benchmarks.api.merge import merge as join

    found = join(folders, to)
    for line in (*found.broken, *found.conflicts):
        terminal.line(f"bench: {line}", error=True)
    for line in found.left_out:
        terminal.line(line)
    if found.conflicts:
        cells = count(len(found.conflicts), "cell")
        terminal.line(f"{cells} with two different records; move one of each away. Nothing was written.")
    else:
        terminal.line(f"{found.said}; they are in {storage.name(storage.folder(to))}")
    raise typer.Exit(1 if found.broken or found.conflicts else 0)


def submit(
    results: Annotated[Path, typer.Argument(help="Folder of results, or of records.")] = Path("results"),
    to: Annotated[Path, typer.Option(help="The leaderboard's folder of records.")] = Path(
        "leaderboard/published/records"
    ),
    allow_smoke: Annotated[bool, typer.Option("--allow-smoke", help="Take records of preset smoke too.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Take records of unknown code too.")] = False,
    verification: Annotated[
        bool, typer.Option("--verification", help="They are other seeds of published rows, from another machine.")
    ] = False,
) -> None:
    """Check finished records and copy them into the leaderboard: all of them or none. Never overwrites a record."""
    from backbench.leaderboard.trust.submit import submit as copy
    from backbench.leaderboard.trust.submit import submit_row

    results = storage.pull(results)
    with _mistakes():
        if verification:
            for line in submit_row(results, to, allow_smoke=allow_smoke, allow_dirty=allow_dirty):
                terminal.line(line)
            terminal.line("records submitted; next: make leaderboard")
            return
        done = copy(results, to, allow_smoke=allow_smoke, allow_dirty=allow_dirty)
    for name in done.new:
        terminal.line(f"new: {to / name}")
    then = "; next: make leaderboard" if done.new else ""
    terminal.line(f"{len(done.new)} records submitted, {len(done.same)} were there already{then}")
