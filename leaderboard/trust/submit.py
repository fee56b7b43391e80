"""Submitting records to the leaderboard: checked, all of them or none, and never one in place of another.
A folder of records holds ``<suite>/<key>.json`` and ``SHA256SUMS``, a sorted list of their checksums in the form that
``sha256sum --check`` reads. The folder ``verifications`` beside it holds records of the same cells from other machines:
``<suite>/<key>.<8 hex digits of its hash>.json``. ``history`` finds rewritten checksums."""

import getpass
import hashlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from backbench import reading
from backbench.claims import alone
from backbench.files import clear_leftovers, write_whole
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.board.settings import RowId
from backbench.leaderboard.record.files import MOST, Published, RecordError, canonical, load_records, read_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.history import read_retired
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.trust.verify import doubts, other_machine, texts

SUMS = "SHA256SUMS"
SUITE = re.compile(r"[A-Za-z0-9_+=-][A-Za-z0-9._+=-]{0,79}")
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_RESTORE = "restore it: git checkout"
# Names of users and hosts that identify nobody.
_ANONYMOUS = {
    "bench", "linux", "python", "torch", "root", "user", "runner", "ubuntu", "debian", "docker", "localhost", "nobody",
    "admin", "vagrant",
}  # fmt: skip


@dataclass(frozen=True)
class Submission:
    """What ``submit`` did: paths below the folder, sorted."""

    new: tuple[str, ...]
    same: tuple[str, ...]  # Already there, with equal bytes.


def submit(results: Path, to: Path, *, allow_smoke: bool = False, allow_dirty: bool = False) -> Submission:
    """Copy the finished records of ``results`` (a folder of results, or of records) into the folder ``to``.
    ``allow_smoke`` accepts records of preset smoke, which measure nothing. ``allow_dirty`` accepts records of unknown
    code: from a changed tree, or without a commit. Raises ``RecordError`` for a record that is unfit, retired, or there
    already with another content, and ``OSError`` if ``to`` cannot be written. Then nothing was written."""
    folder = Published.around(results).records
    if not folder.is_dir():
        raise RecordError(results, "there is no such folder", "name a folder of results: bench submit results")
    if not (paths := [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]):
        raise RecordError(folder, "there is no record", "run some cells, or name another folder")
    retired = read_retired(Published(to))
    wanted: dict[str, str] = {}
    records: dict[str, Record] = {}
    problems = []
    for path in paths:
        text, record = read_record(path)
        if record.key in retired:
            problems.append((path, f"key: the record was retired: {retired[record.key]}"))
        if text != canonical(record, as_read=True):
            problems.append((path, "is not as bench wrote it"))
        if path.stem not in (record.key, f"{record.key}.failed"):
            problems.append((path, f"key: {record.key!r} is not the file's name"))
        problems += [(path, what) for what in _unfit(record, allow_smoke, allow_dirty)]
        wanted[place_of(record)], records[place_of(record)] = text, record
    if problems:
        path, what = problems[0]
        more = f" (and {len(problems) - 1} more problems in {len({p for p, _ in problems})} records)"
        remedy = "nothing was submitted; run the cell again, or move the record away"
        raise RecordError(path, what + (more if len(problems) > 1 else ""), remedy)
    return place(wanted, to, lambda: _fit_together(records, to))


def submit_row(results: Path, to: Path, *, allow_smoke: bool = False, allow_dirty: bool = False) -> list[str]:
    """``submit`` for records that ``bench verify`` made: a line about each row that they join.
    Each must be of a row that ``to`` has, with other seeds, and made by another kind of machine. Raises ``RecordError``
    for any other record; then nothing was written."""
    there, new = (load_records(folder)[0] for folder in (to, Published.around(results).records))
    published = [record for record in there if record.status == "done"]
    added = [record for record in new if record.status == "done"]
    for record in added:
        mine = [one for one in published if RowId.of(one) == RowId.of(record) and _place(one) == _place(record)]
        if not mine:
            raise RecordError(f"{record.key}.json", f"{to} has no such row", "submit it without --verification")
        if record.identity.seed in {one.identity.seed for one in mine}:
            remedy = "bench reproduce RECORD --submit adds a second run of a cell"
            raise RecordError(f"{record.key}.json", f"the row has seed {record.identity.seed} already", remedy)
        if all(not other_machine(one, record) for one in mine):
            remedy = "submit it without --verification: it adds seeds, and confirms nothing"
            raise RecordError(f"{record.key}.json", "it comes from the same kind of machine as the row", remedy)
    submit(results, to, allow_smoke=allow_smoke, allow_dirty=allow_dirty)
    joined = {(_place(record), RowId.of(record)) for record in added}
    rows = [row for section in build_board([*published, *added]).sections for row in section.rows]
    return [
        f"{row.label}: {row.agreement.said}" if row.agreement else f"{row.label}: no verdict: too few seeds on one side"
        for row in rows
        if any((_place(record), row.row) in joined for record in row.records)
    ]


def _place(record: Record) -> tuple[str, str, str, str]:
    """Suite, preset, source and task of a record."""
    cell = record.identity
    return cell.suite, cell.preset, cell.source, cell.task


def submit_verification(record: Record, to: Path, *, allow_dirty: bool = False) -> Submission:
    """Put a second machine's ``record`` into the folder of verifications ``to``. Raises as ``submit`` does."""
    text = canonical(record)
    if what := next(_unfit(record, True, allow_dirty), None):
        raise RecordError(f"{record.key}.json", what, "nothing was submitted")
    return place({verification_place(record, text): text}, to)


def place_of(record: Record) -> str:
    """Path of a record below the folder of records. Raises ``RecordError`` for a suite that cannot name a folder."""
    if not SUITE.fullmatch(record.identity.suite):
        raise RecordError(f"{record.key}.json", f"suite {record.identity.suite!r} is no name of a folder", "rename it")
    return f"{record.identity.suite}/{record.key}.json"


def verification_place(record: Record, text: str) -> str:
    """Path of a verification below its folder; ``text`` is the file's content."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{place_of(record).removesuffix('.json')}.{digest[:8]}.json"


def read_sums(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of ``SHA256SUMS`` in ``folder``; empty without one. Raises ``RecordError`` for a broken one."""
    path = folder / SUMS
    try:
        lines = reading.text(path, MOST).splitlines()
    except reading.ReadingError as error:
        if error.missing:
            return {}
        raise RecordError(path, error.problem, _RESTORE) from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            what = "names a file again" if match else "is no hash, two spaces and a path"
            raise RecordError(path, f"line {number} {what}", _RESTORE)
        found[match[2]] = match[1]
    if list(found) != sorted(found):
        raise RecordError(path, "is not sorted by path", _RESTORE)
    return found


def place(wanted: Mapping[str, str], to: Path, fit: Callable[[], None] = lambda: None) -> Submission:
    """Write texts to their paths below ``to`` and list their checksums; all or nothing.
    The checksums are written last: after a kill the same call completes them. ``fit`` runs under the lock, before
    anything is written, and may raise. Raises ``RecordError`` if a file is there with another content, does not match
    its checksum, or lies behind a link."""
    with alone(to / ".claim-submitting"):  # two concurrent submissions would overwrite each other's checksums
        for folder in (to, *(one for one in to.iterdir() if one.is_dir() and not one.is_symlink())):
            clear_leftovers(folder)
        for part in (part for name in sorted({SUMS, *wanted}) for part in ((to / name).parent, to / name)):
            if part != to and part.is_symlink():  # it would be written outside ``to``
                raise RecordError(part, "is a link", "put what it leads to in its place; nothing was submitted")
        sums = read_sums(to)
        new, same = {}, []
        for name, text in sorted(wanted.items()):
            digest, path = hashlib.sha256(text.encode()).hexdigest(), to / name
            there = reading.content(path, MOST) if path.is_file() else None
            if there is not None and there != text.encode():
                remedy = "records are only added; what is there stays: nothing was submitted"
                raise RecordError(path, "is there already, with another content", remedy)
            if sums.get(name, digest) != digest or (name in sums and there is None):
                raise RecordError(path, f"is not as {SUMS} has it", f"{_RESTORE}; nothing was submitted")
            if name in sums:
                same.append(name)
            else:
                new[name], sums[name] = text, digest
        if new:
            fit()
            lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
            with ExitStack() as undo:  # an error removes the files that are new
                for name, text in {**new, SUMS: lines}.items():
                    if not (to / name).exists():
                        undo.callback((to / name).unlink, missing_ok=True)
                    write_whole(to / name, text)
                undo.pop_all()
    return Submission(tuple(new), tuple(same))


def _fit_together(new: Mapping[str, Record], to: Path) -> None:
    """Raise ``RecordError`` if ``check`` would refuse the ``new`` records beside those in ``to``."""
    there: dict[str, Record] = {}
    for path in sorted(to.glob("*/*.json")):
        with suppress(RecordError):  # check names broken files
            there[path.relative_to(to).as_posix()] = read_record(path)[1]
    known = {*impossible_together([*there.values()])}
    if line := next((one for one in impossible_together([*{**there, **new}.values()]) if one not in known), None):
        raise RecordError(to, line, "nothing was submitted")


def _unfit(record: Record, allow_smoke: bool, allow_dirty: bool) -> Iterator[str]:
    """Why ``record`` may not be published, a phrase each."""
    origin = record.provenance
    if record.identity.preset == "smoke" and not allow_smoke:
        yield "identity.preset: smoke measures nothing; --allow-smoke accepts it all the same"
    if origin.git_commit is None and not allow_dirty:
        yield "provenance.git_commit: its code is not known; run it from a clone, or give --allow-dirty"
    elif origin.git_dirty is not False and not allow_dirty:
        yield "provenance.git_dirty: its code differed from its commit; commit first, or give --allow-dirty"
    yield from doubts(record)
    # Names of this machine and its user, which only this machine knows.
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    with suppress(OSError, KeyError):
        names.add(getpass.getuser())
    own = f"{record.key} {record.identity.environment} {record.identity.suite}".lower()
    for name in sorted(names):
        if (
            len(name) >= 3 and name.lower() not in _ANONYMOUS and name.lower() not in own
        ):  # a host "hopper" says nothing
            word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", re.IGNORECASE)
            where = next((where for where, text in texts(record.model_dump()) if word.search(text)), None)
            if where is not None:
                yield f"{where}: holds the name of this machine or its user"
