"""Records into the leaderboard: checked, all of them or none, and never one in place of another.

A folder of records holds ``<suite>/<key>.json`` and ``SHA256SUMS``, a sorted list of their hashes in the form that
``sha256sum --check`` reads. A changed digit in a record no longer agrees with its sum. Whoever changes both is found by
the history of the repository, and in the end by ``bench reproduce``. The folder ``verifications`` beside it is alike,
with ``<suite>/<key>.<8 hex digits of its hash>.json``: records of the same cells from other machines.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backbench.leaderboard.record.files import RecordError, canonical, parse_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.trust.verify import doubts, texts

SUMS = "SHA256SUMS"
SUITE = re.compile(r"[A-Za-z0-9_+=-][A-Za-z0-9._+=-]{0,79}")
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_LEFT = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # what ``_write_all`` writes first
_RESTORE = "restore it: git checkout"
# Users and hosts of this name are nobody's.
_NOBODY = {
    "bench",
    "linux",
    "python",
    "torch",
    "root",
    "user",
    "runner",
    "ubuntu",
    "debian",
    "docker",
    "localhost",
    "nobody",
    "admin",
    "vagrant",
}


@dataclass(frozen=True)
class Submission:
    """What ``submit`` did: paths below the folder, sorted."""

    new: tuple[str, ...]
    same: tuple[str, ...]
    """Were there already, with equal bytes."""


def submit(results: Path, to: Path, *, allow_smoke: bool = False, allow_dirty: bool = False) -> Submission:
    """Copy the finished records of ``results`` (a folder of results, or of records) into the folder ``to``.

    Args:
        results: where ``bench run`` wrote.
        to: created where it is not there.
        allow_smoke: take records of preset smoke too, which measure nothing.
        allow_dirty: take those too whose code is not known: from a changed tree, or without a commit.

    Raises:
        RecordError: a record is not fit, or is there already with another content; nothing was written.
        OSError: ``to`` cannot be written; nothing was.
    """
    folder = results / "records" if (results / "records").is_dir() else results
    if not folder.is_dir():
        raise RecordError(results, "there is no such folder", "name a folder of results: bench submit results")
    paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
    if not paths:
        raise RecordError(folder, "there is no record", "run some cells, or name another folder")
    wanted: dict[str, str] = {}
    records: dict[str, Record] = {}
    problems = []
    for path in paths:
        text, record = read(path)
        found = [*_unfit(record, allow_smoke, allow_dirty), *doubts(record), *_personal(record)]
        if path.stem != record.key:
            found.insert(0, f"key: {record.key!r} is not the file's name")
        if text != canonical(record, as_read=True):
            found.insert(0, "is not as bench wrote it")
        problems += [(path, what) for what in found]
        wanted[place_of(record)], records[place_of(record)] = text, record
    if problems:
        path, what = problems[0]
        more = f" (and {len(problems) - 1} more problems in {len({p for p, _ in problems})} records)"
        remedy = "nothing was submitted; run the cell again, or move the record away"
        raise RecordError(path, what + (more if len(problems) > 1 else ""), remedy)
    return place(wanted, to, lambda: _fit_together(records, to))


def _fit_together(new: Mapping[str, Record], to: Path) -> None:
    """Raise ``RecordError`` where the ``new`` ones cannot be beside those in ``to``, as ``check`` would say."""
    there = {}
    for path in sorted(to.glob("*/*.json")):
        with suppress(RecordError):  # check names what cannot be read
            there[path.relative_to(to).as_posix()] = read(path)[1]
    known = set(impossible_together(list(there.values())))
    for line in impossible_together(list({**there, **new}.values())):
        if line not in known:
            raise RecordError(to, line, "nothing was submitted")


def submit_verification(record: Record, to: Path, *, allow_dirty: bool = False) -> Submission:
    """Put a second machine's ``record`` into the folder of verifications ``to``. Raises as ``submit`` does."""
    text = canonical(record)
    found = [*_unfit(record, True, allow_dirty), *doubts(record), *_personal(record)]
    if found:
        raise RecordError(f"{record.key}.json", found[0], "nothing was submitted")
    return place({verification_place(record, text): text}, to)


def place_of(record: Record) -> str:
    """Where a record belongs, below the folder of records. Raises ``RecordError`` for a suite that is no folder."""
    if not SUITE.fullmatch(record.identity.suite):
        raise RecordError(f"{record.key}.json", f"suite {record.identity.suite!r} is no name of a folder", "rename it")
    return f"{record.identity.suite}/{record.key}.json"


def verification_place(record: Record, text: str) -> str:
    """Where a verification belongs, below its folder; ``text`` is what its file holds."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{place_of(record).removesuffix('.json')}.{digest[:8]}.json"


def read(path: Path) -> tuple[str, Record]:
    """A record's text and the record. Raises ``RecordError``."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise RecordError(path, "is not UTF-8 text") from None
    except OSError as error:
        raise RecordError(path, f"cannot be read: {error.strerror or error}", "check the permissions") from None
    return text, parse_record(text, path)


def read_sums(folder: Path) -> dict[str, str]:
    """Path below ``folder`` -> SHA-256 as listed in its ``SHA256SUMS``; empty without one.

    Raises ``RecordError`` for a line that is none, a path twice, or another order.
    """
    path = folder / SUMS
    if not path.exists():
        return {}
    try:
        lines = path.read_bytes().decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise RecordError(path, "is not UTF-8 text", _RESTORE) from None
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
    """Write texts to their paths below ``to`` and list their sums; all or nothing.

    The sums are written last: after a kill before that, ``check`` names the files that are not listed, and the same
    call goes on; half-written files that it left are taken away. ``fit`` is called before anything is written, while
    nobody else writes, and may raise.

    Raises ``RecordError`` where a file is there with another content, or is not as its sum says, or its folder is a
    link.
    """
    with _alone(to):
        for left in [*to.glob(".*.tmp"), *to.glob("*/.*.tmp")]:
            if _LEFT.fullmatch(left.name) and not left.parent.is_symlink():
                left.unlink(missing_ok=True)
        _no_links(to, wanted)
        sums = read_sums(to)
        new, same = {}, []
        for name, text in sorted(wanted.items()):
            digest = hashlib.sha256(text.encode()).hexdigest()
            path = to / name
            there = path.read_bytes() if path.is_file() else None
            if there is not None and there != text.encode():
                remedy = "records are only added; what is there stays: nothing was submitted"
                raise RecordError(path, "is there already, with another content", remedy)
            if sums.get(name, digest) != digest or (name in sums and there is None):
                raise RecordError(path, f"is not as {SUMS} has it", f"{_RESTORE}; nothing was submitted")
            if name in sums:
                same.append(name)
            else:
                new[name] = text
                sums[name] = digest
        if new:
            fit()
            lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
            _write_all(to, {**new, SUMS: lines})
    return Submission(tuple(new), tuple(same))


def _no_links(to: Path, names: Iterable[str]) -> None:
    """What is written below ``to`` must come to lie there."""
    for name in sorted({SUMS, *names}):
        path = to / name
        for part in (path.parent, path):
            if part != to and part.is_symlink():
                raise RecordError(part, "is a link", "put what it leads to in its place; nothing was submitted")


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Write them beside their places first, then move them there in order; on an error what is new is taken away."""
    mark = f".{uuid.uuid4().hex}.tmp"
    temporary, moved = {}, []
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path] = path.with_name(f".{path.name}{mark}")
            with temporary[path].open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, beside in temporary.items():
            fresh = not path.exists()
            os.replace(beside, path)
            moved += [path] if fresh else []
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    finally:
        for beside in temporary.values():
            beside.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two that submit at once would write each other's sums away."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _unfit(record: Record, allow_smoke: bool, allow_dirty: bool) -> Iterator[str]:
    origin = record.provenance
    if record.identity.preset == "smoke" and not allow_smoke:
        yield "identity.preset: smoke measures nothing; --allow-smoke takes it all the same"
    if origin.git_commit is None and not allow_dirty:
        yield "provenance.git_commit: its code is not known; run it from a clone, or give --allow-dirty"
    elif origin.git_dirty is not False and not allow_dirty:
        yield "provenance.git_dirty: its code differed from its commit; commit first, or give --allow-dirty"


def _personal(record: Record) -> Iterator[str]:
    """Names of this machine and its user, which are known here only."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    with suppress(OSError, KeyError):
        names.add(getpass.getuser())
    own = f"{record.key} {record.identity.environment} {record.identity.suite}".lower()
    for name in sorted(names):
        # A host called "hopper" gives nothing away.
        if len(name) < 3 or name.lower() in _NOBODY or name.lower() in own:
            continue
        word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", re.IGNORECASE)
        for where, text in texts(record.model_dump()):
            if word.search(text):
                yield f"{where}: holds the name of this machine or its user"
                break
