"""``python -m backbench.leaderboard check|render``: without torch and without a simulator."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backbench import terminal
from backbench.errors import UserError
from backbench.leaderboard.check import check
from backbench.leaderboard.record.files import FOLDER, Published, RecordError
from backbench.leaderboard.trust.history import not_only_added
from backbench.leaderboard.views.export import render
from backbench.text import plain


def published(given: Path) -> Published:
    """The leaderboard of ``given``: its folder of records, or the folder around. Raises ``RecordError`` if missing."""
    found = Published.around(given)
    if not found.records.is_dir():
        raise RecordError(given, "there is no such folder", f"call it from a clone, which has {FOLDER}, or name one")
    return found


def run_check(given: Path, strict: bool = False, since: str | None = None) -> int:
    """Print what ``check`` finds, a line each. 1 if there is a problem, or with ``strict`` a warning, else 0.
    ``since``: a revision of the repository, since which records may only have been added or retired."""
    found = published(given)
    report = check(found)
    if since is not None:
        report.problems += not_only_added(found, since)
    problems, warnings = report.problems, report.warnings
    for line in [f"problem: {one}" for one in problems] + [f"warning: {one}" for one in warnings]:
        terminal.line(plain(line))
    terminal.line(f"{report.records} records in {found.records}: {len(problems)} problems, {len(warnings)} warnings")
    return 1 if problems or (strict and warnings) else 0


def run_render(given: Path, pages: Path | None) -> int:
    """Write the pages, to ``pages`` if given, and say so; 0."""
    found = published(given)
    try:
        names = render(found, pages)
    except RecordError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"no pages can be made of them: {type(error).__name__}: {error}"
        raise RecordError(found.records, what, "find the record: python -m backbench.leaderboard check") from error
    terminal.line(f"{len(names)} pages in {pages or found.pages}")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Entry point. The exit status: 0, 1 if ``check`` found a problem, 2 for a mistake of the user's."""
    terminal.ready()
    parser = argparse.ArgumentParser(prog="python -m backbench.leaderboard", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="look for problems; exits 1 if there is one")
    checking.add_argument("--strict", action="store_true", help="count warnings as problems")
    checking.add_argument("--since", metavar="REVISION", help="records may only be added or retired since then")
    rendering = commands.add_parser("render", help="write the pages")
    rendering.add_argument("--pages", type=Path, help="folder of the pages; default: pages beside the records")
    for command in (checking, rendering):
        command.add_argument("folder", type=Path, nargs="?", default=FOLDER, help=f"of records; default: {FOLDER}")
    given = parser.parse_args(words)
    try:
        if given.command == "check":
            return run_check(given.folder, given.strict, given.since)
        return run_render(given.folder, given.pages)
    except (RecordError, UserError) as error:
        said = str(error)
    except OSError as error:
        said = (error.strerror or str(error)) + (f": {error.filename}" if error.filename else "")
    terminal.line(f"leaderboard: {plain(said)}", error=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
