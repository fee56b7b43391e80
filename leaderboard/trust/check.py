"""What continuous integration runs over the leaderboard: every file is what it should be, and the pages are theirs.

A changed digit is found by the record's sum (``submit``), an impossible or contradictory value by ``trust``, and a page
that somebody wrote by hand by rendering it again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backbench.leaderboard.board.settings import RowId, comparable_groups
from backbench.leaderboard.record.files import RecordError, canonical
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.plausible import short_wall
from backbench.leaderboard.trust.submit import SUMS, place_of, read, read_sums, verification_place
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.trust.verify import doubts, why_not_verified
from backbench.leaderboard.views.export import pages_of, stale

_RESTORE = "restore it: git checkout, or take it away"
_ALLOWED = {SUMS, "README.md", ".gitkeep"}


@dataclass
class Report:
    """What ``check`` found: one line each."""

    problems: list[str] = field(default_factory=list)
    """With the file, what is wrong and what to do."""
    warnings: list[str] = field(default_factory=list)
    """Missing cells, verifications that do not verify, code that is not known."""
    records: int = 0
    """Records that were read."""


def check(
    records: Path, pages: Path | None = None, verifications: Path | None = None, now: datetime | None = None
) -> Report:
    """Check a leaderboard; changes nothing.

    Args:
        records: folder of ``<suite>/<key>.json`` and their sums.
        pages: that the records should make; None: not looked at. They are not rendered when a record cannot be read.
        verifications: folder of records from other machines; None: not looked at.
        now: what no record can have been started after; default: the clock's.
    """
    report = Report()
    found, whole = _folder(records, report, now, verification=False)
    report.records = len(found)
    known = {record.key: record for record in found}
    others: list[Record] = []
    if verifications is not None:
        others, readable = _folder(verifications, report, now, verification=True)
        whole = whole and readable
    report.problems += [f"{records}: {line}" for line in impossible_together(found)]
    for other in others:
        place = verification_place(other, canonical(other, as_read=True))
        why = why_not_verified(known[other.key], other) if other.key in known else "there is no such record"
        if why:
            report.warnings.append(f"{(verifications or records) / place}: verifies nothing: {why}")
    for record in found:
        if record.provenance.git_commit is None or record.provenance.git_dirty is not False:
            report.warnings.append(f"{records / place_of(record)}: its code is not known: no commit, or a changed tree")
        if short := short_wall(record):
            report.warnings.append(f"{records / place_of(record)}: {short}")
    report.warnings += missing_cells(found)
    if pages is not None and whole:
        try:
            texts = pages_of(found, others)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a record that no rule here knows
            report.problems.append(f"{records}: no pages can be made of the records: {error}; see the other problems")
        else:
            report.problems += stale(texts, pages)
    return report


def missing_cells(records: Sequence[Record]) -> list[str]:
    """A line for each row that lacks a task or a seed which another row of its section has."""
    lines = []
    for group in comparable_groups(records):
        rows: dict[RowId, set[tuple[str, int]]] = defaultdict(set)
        for record in group.records:
            rows[RowId.of(record)].add((record.identity.task, record.identity.seed))
        every = set().union(*rows.values())
        for row, cells in sorted(rows.items()):
            if lacking := sorted(every - cells):
                shown = ", ".join(f"{task} s{seed}" for task, seed in lacking[:6])
                more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
                name = f"{row.backbone} ({row.variant})" if row.variant else row.backbone
                where = f"{group.setting.suite}, {group.setting.source}, {group.setting.preset}"
                lines.append(f"{where}: {name} lacks {len(lacking)} of {len(every)} cells: {shown}{more}")
    return lines


def _folder(folder: Path, report: Report, now: datetime | None, *, verification: bool) -> tuple[list[Record], bool]:
    """The records in ``folder``, and whether all could be read; what is wrong goes into ``report``."""
    if not folder.is_dir():
        return [], True
    say = report.problems.append
    try:
        sums: dict[str, str] | None = read_sums(folder)
    except RecordError as error:
        say(str(error))
        sums = None
    found, whole = [], True
    there = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in there:
        name = path.relative_to(folder).as_posix()
        if name in _ALLOWED:
            continue
        if path.is_symlink() or path.suffix != ".json" or any(part.startswith(".") for part in Path(name).parts):
            say(f"{path}: does not belong here; take it away")
            continue
        try:
            text, record = read(path)
        except RecordError as error:
            say(str(error))
            whole = False
            continue
        finally:
            if sums is not None:
                report.problems += _sum(path, sums.pop(name, None))
        found.append(record)
        report.problems += [f"{path}: {what}" for what in _file(name, text, record, now, verification)]
    for name in sums or ():
        say(f"{folder / name}: is listed in {SUMS} and not there; {_RESTORE.partition(',')[0]}")
    return found, whole


def _sum(path: Path, listed: str | None) -> Iterator[str]:
    if listed is None:
        yield f"{path}: is not listed in {SUMS}; bench submit adds records"
    elif hashlib.sha256(path.read_bytes()).hexdigest() != listed:
        yield f"{path}: is not as {SUMS} has it: it was changed after it was submitted; {_RESTORE}"


def _file(name: str, text: str, record: Record, now: datetime | None, verification: bool) -> Iterator[str]:
    """What is wrong with a record that could be read, without the file."""
    try:
        expected = verification_place(record, text) if verification else place_of(record)
    except RecordError as error:
        yield f"{error.problem}; {error.remedy}"
        return
    if text != canonical(record, as_read=True):
        yield f"is not as bench writes it (order, spaces or numbers); {_RESTORE}"
    elif name != expected:
        yield f"is out of its place, {expected}; {_RESTORE}"
    for what in doubts(record, now):
        yield f"{what}; {_RESTORE}"
