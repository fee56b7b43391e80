"""The check that continuous integration runs: every record is as submitted, and the pages are what the records make.
A changed digit is found by the record's checksum, an impossible or contradictory value by the rules in ``trust``, and a
page that was edited by hand by rendering it again."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from backbench import reading
from backbench.leaderboard.board.agreement import on_one_machine
from backbench.leaderboard.board.groups import comparable_groups, together
from backbench.leaderboard.board.settings import RowId
from backbench.leaderboard.record.files import MOST, Published, RecordError, canonical, read_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.history import wrongly_retired
from backbench.leaderboard.trust.plausible import short_wall
from backbench.leaderboard.trust.submit import SUMS, place_of, read_sums, verification_place
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.trust.verify import doubts, why_not_reproduced
from backbench.leaderboard.views.export import pages_of, stale
from backbench.leaderboard.views.studies import reports_of

_UNDO = "restore it: git checkout"
_RESTORE = f"{_UNDO}, or remove it"
_ALLOWED = {SUMS, "README.md", ".gitkeep"}


@dataclass
class Report:
    """What ``check`` found: one line each."""

    problems: list[str] = field(default_factory=list)  # With the file, what is wrong and what to do.
    warnings: list[str] = field(default_factory=list)  # Missing cells, unknown code, useless verifications.
    records: int = 0  # Number of readable records.


def check(published: Published, now: datetime | None = None, pages: bool = True) -> Report:
    """Check a leaderboard; changes nothing.
    ``now``: no record can have been started later; default: the clock's time. ``pages``: whether to compare the pages
    with the records, if all of these are readable."""
    report, records = Report(), published.records
    found, readable = _folder(records, report, now, verification=False)
    others, also_readable = _folder(published.verifications, report, now, verification=True)
    report.records = len(found)
    report.problems += [f"{records}: {line}" for line in impossible_together(found)]
    report.problems += wrongly_retired(published)
    known = {record.key: record for record in found}
    for other in others:
        why = why_not_reproduced(known[other.key], other) if other.key in known else "there is no such record"
        if why:
            place = published.verifications / verification_place(other, canonical(other, as_read=True))
            report.warnings.append(f"{place}: reproduces nothing: {why}")
    for record in found:
        said = [short_wall(record)]
        if record.provenance.git_commit is None or record.provenance.git_dirty is not False:
            said.insert(0, "its code is not known: no commit, or a changed tree")
        report.warnings += [f"{records / place_of(record)}: {what}" for what in said if what]
    report.warnings += missing_cells(found)
    if pages and readable and also_readable:
        try:
            texts = pages_of(found, others, studies=reports_of(published.studies))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # a record that passes every rule here
            report.problems.append(f"{records}: no pages can be made of the records: {error}; see the other problems")
        else:
            report.problems += stale(texts, published.pages)
    return report


def missing_cells(records: Sequence[Record]) -> list[str]:
    """A line for each row that lacks a task or a seed which another row of its section has. Seeds that a second machine
    ran to verify a row are nothing that others lack, unless most rows have them."""
    lines = []
    for group in comparable_groups(records):
        made = together((RowId.of(one), one) for one in group.records)
        rows = {row: set(map(_task_and_seed, records)) for row, records in made.items()}
        count = Counter(cell for cells in rows.values() for cell in cells)
        every = {cell for cell, having in count.items() if having > len(rows) / 2}
        every = every.union(*(map(_task_and_seed, on_one_machine(records)) for records in made.values()))
        for row, cells in sorted(rows.items()):
            if lacking := sorted(every.difference(cells)):
                shown = ", ".join(f"{task} s{seed}" for task, seed in lacking[:6])
                more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
                name = row.label
                where = ", ".join((group.setting.suite, group.setting.source, group.setting.preset))
                lines.append(f"{where}: {name} lacks {len(lacking)} of {len(every)} cells: {shown}{more}")
    return lines


def _task_and_seed(record: Record) -> tuple[str, int]:
    return record.identity.task, record.identity.seed


def _folder(folder: Path, report: Report, now: datetime | None, *, verification: bool) -> tuple[list[Record], bool]:
    """The records in ``folder``, and whether all are readable; problems go into ``report``."""
    problems, found, readable = report.problems, [], True
    sums: dict[str, str] | None = None
    try:
        sums = read_sums(folder)
    except RecordError as error:
        problems.append(str(error))
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name in _ALLOWED:
            continue
        if path.is_symlink() or path.suffix != ".json" or "/." in f"/{name}":
            problems.append(f"{path}: does not belong here; remove it")
            continue
        try:
            text, record = read_record(path)
        except RecordError as error:
            problems.append(str(error))
            readable = False
            continue
        finally:
            listed = None if sums is None else sums.pop(name, "")
            if listed == "":
                problems.append(f"{path}: is not listed in {SUMS}; bench submit adds records")
            elif listed is not None and _sha256(path) != listed:
                what = f"is not as {SUMS} has it: it was changed after it was submitted"
                problems.append(f"{path}: {what}; {_RESTORE}")
        found.append(record)
        problems += [f"{path}: {what}" for what in _file(name, text, record, now, verification)]
    problems += [f"{folder / name}: is listed in {SUMS} and not there; {_UNDO}" for name in sums or ()]
    return found, readable


def _sha256(path: Path) -> str:
    """Of a file's bytes; empty for one that cannot be read, which is another problem."""
    try:
        return hashlib.sha256(reading.content(path, MOST)).hexdigest()
    except reading.ReadingError:
        return ""


def _file(name: str, text: str, record: Record, now: datetime | None, verification: bool) -> Iterator[str]:
    """What is wrong with a readable record, without the file."""
    try:
        expected = verification_place(record, text) if verification else place_of(record)
    except RecordError as error:
        yield f"{error.problem}; {error.remedy}"
        return
    if text != canonical(record, as_read=True):
        yield f"is not as bench writes it (order, spaces or numbers); {_RESTORE}"
    elif name != expected:
        yield f"is misplaced, it belongs at {expected}; {_RESTORE}"
    for what in doubts(record, now):
        yield f"{what}; {_RESTORE}"
