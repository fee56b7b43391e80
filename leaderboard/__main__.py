"""``python -m backbench.leaderboard check|render``: without torch and without a simulator."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.trust.check import check
from backbench.leaderboard.trust.history import not_only_added
from backbench.leaderboard.views.export import render

FOLDER = Path("leaderboard/published/records")


def folders(given: Path) -> tuple[Path, Path, Path]:
    """Folders of records, of verifications and of pages; ``given`` is that of the records, or the one around them.

    Raises ``RecordError`` where it is not there.
    """
    records = given / "records" if (given / "records").is_dir() else given
    if not records.is_dir():
        raise RecordError(given, "there is no such folder", f"call it from a clone, which has {FOLDER}, or name one")
    return records, records.parent / "verifications", records.parent / "pages"


def plain(text: str) -> str:
    """``text`` in one line, without characters that a terminal obeys instead of showing them."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)


def run_check(given: Path, strict: bool = False, since: str | None = None) -> int:
    """Print what ``check`` finds, a line each; 1 where there is a problem, or with ``strict`` a warning, else 0.

    ``since``: a revision of the repository, since which records may only have been added.
    """
    records, verifications, pages = folders(given)
    report = check(records, pages, verifications)
    for folder in (records, verifications):
        if since is not None and folder.is_dir():
            report.problems += not_only_added(folder, since)
    for line in report.problems:
        print(f"problem: {plain(line)}")
    for line in report.warnings:
        print(f"warning: {plain(line)}")
    counts = f"{len(report.problems)} problems, {len(report.warnings)} warnings"
    print(f"{report.records} records in {records}: {counts}")
    return 1 if report.problems or (strict and report.warnings) else 0


def run_render(given: Path, pages: Path | None = None) -> int:
    """Write the pages, to ``pages`` where it is given, and say so; 0."""
    records, verifications, own = folders(given)
    try:
        names = render(records, verifications, pages or own)
    except RecordError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"no pages can be made of them: {type(error).__name__}: {error}"
        raise RecordError(records, what, "look for the record: python -m backbench.leaderboard check") from error
    print(f"{len(names)} pages in {pages or own}")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; the exit status: 0, 1 where ``check`` found a problem, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python -m backbench.leaderboard", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="look for problems: 1 when there is one")
    checking.add_argument("--strict", action="store_true", help="a warning counts as a problem")
    checking.add_argument("--since", metavar="REVISION", help="records may only have been added since this revision")
    rendering = commands.add_parser("render", help="write the pages")
    rendering.add_argument("--pages", type=Path, help="folder of the pages; default: pages beside the records")
    for command in (checking, rendering):
        command.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"of records; default: {FOLDER}")
    given = parser.parse_args(words)
    try:
        if given.command == "check":
            return run_check(given.folder, given.strict, given.since)
        return run_render(given.folder, given.pages)
    except RecordError as error:
        print(f"leaderboard: {plain(str(error))}", file=sys.stderr)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"leaderboard: {plain(f'{error.strerror or error}{where}')}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
