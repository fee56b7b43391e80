"""``bench merge``: the records of several folders of results in one, with their weights, and what disagrees."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backbench import claims, storage
from backbench.benchmarks.api.status import PLANS
from backbench.benchmarks.run.results import WEIGHTS, digest_in
from backbench.errors import UserError, require
from backbench.files import write_whole
from backbench.leaderboard.record.files import FAILED, RecordError, read_record
from backbench.leaderboard.record.schema import Record
from backbench.text import count


@dataclass(frozen=True)
class Found:
    """A record and the folder of results that it is in."""

    text: str
    record: Record
    folder: Path


@dataclass
class Merged:
    """What a merge found: records of cells that are done, failures of others, and a line for each problem."""

    done: dict[str, Found] = field(default_factory=dict)
    failed: dict[str, Found] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # cells without a record
    twice: int = 0  # records of a cell that ran again, with an equal result
    said: str = ""  # what was written


def merge(sources: Sequence[Path], to: Path) -> Merged:
    """Add the records of ``sources``, folders of results, to the folder ``to``, which may be new or an address.

    A record that is there stays. Of two records of a cell with equal results the first stays, though each run has its
    own costs; ``twice`` counts them. If results differ, nothing is written, and ``conflicts`` says how. A success is
    taken before a failure of the same cell; of several failures the first. Cells that run or are half-done are left
    out. A file that is no record is left out too, with a line in ``broken``. Raises ``UserError`` and ``OSError``; the
    same call again completes what it began.
    """
    folders = [storage.pull(source) for source in sources]
    for folder in folders:
        require((folder / "records").is_dir(), f"{folder} has no folder records; name a folder of results")
    to = storage.pull(to)
    found = Merged()
    for folder in dict.fromkeys([to, *folders]):
        _read(folder, found)
    for folder in dict.fromkeys(folders):
        found.left_out += _left_out(folder, found)
    if not found.conflicts:
        to.mkdir(parents=True, exist_ok=True)
        with claims.alone(to / ".claim-merging"):
            found.said = _write(found, folders, to)
    return found


def _read(folder: Path, found: Merged) -> None:
    """Add the records of a folder, the first of equal ones."""
    for path in sorted((folder / "records").glob("[!.]*")):
        try:
            text, record = read_record(path)
            if path.name not in (f"{record.key}.json", f"{record.key}{FAILED}"):
                raise RecordError(path, f"key: {record.key!r} is not the file's name", "rename or move it away")
        except RecordError as error:
            found.broken.append(str(error))
            continue
        into = found.done if record.status == "done" else found.failed
        first = into.setdefault(record.key, Found(text, record, folder))
        if record.status == "done" and first.record != record:
            if what := ", ".join(_differences(first.record, record)):
                found.conflicts.append(f"{record.key}: {first.folder} and {folder} differ in {what}")
            else:
                found.twice += 1


def _differences(one: Record, other: Record) -> Iterator[str]:
    """What differs in the results of two records of a cell, with values where they are short. Costs always do."""
    if one.scores != other.scores:
        yield "scores"
    data, commit = (
        [r.identity.data.sha256 if r.identity.data else "none" for r in (one, other)],
        [r.provenance.git_commit or "unknown" for r in (one, other)],
    )
    for name, (mine, theirs) in (("data", data), ("commit", commit)):
        if mine != theirs:
            yield f"{name} ({mine[:8]}, {theirs[:8]})"
    if one.provenance.weights_sha256 != other.provenance.weights_sha256:
        yield "weights"
    for name in sorted(type(one).model_fields.keys() - {"scores", "cost", "provenance"}):
        if getattr(one, name) != getattr(other, name):
            yield name


def _left_out(folder: Path, found: Merged) -> Iterator[str]:
    """A line for each cell of a folder that has no record yet."""
    for home in sorted((folder / "checkpoints").glob("[!.]*")):
        if home.name not in found.done and claims.epochs(home):
            who = claims.holder_of(home, storage.observer(folder))
            yield f"{home.name}: {f'{who} runs it' if who else 'half done'} in {folder}; left out"


def _write(found: Merged, folders: Sequence[Path], to: Path) -> str:
    """Write what is new; what that is, in words."""
    disk, new, without = storage.disk(to), 0, 0
    for key, one in found.done.items():
        if one.folder == to:
            continue
        without += not _copy_weights(one, to)
        path = to / "records" / f"{key}.json"
        if not disk.publish(path, one.text) and read_record(path)[1] != one.record:
            raise UserError(f"{path} was made meanwhile, with another content; nothing in it was changed")
        disk.discard(path.with_suffix(FAILED))
        new += 1
    failures = {key: one for key, one in found.failed.items() if key not in found.done and one.folder != to}
    for key, one in failures.items():
        write_whole(path := to / "records" / f"{key}{FAILED}", one.text)
        require(disk.push(path), f"{path.name} was not written; run the same command again")
    for plan in (plan for folder in folders for plan in sorted((folder / PLANS).glob("[!.]*.plan"))):
        if not (path := to / PLANS / plan.name).exists():
            write_whole(path, plan.read_bytes())
            disk.push(path)
    lacking = f", {without} of them without weights" if without else ""
    there = sum(one.folder == to for one in found.done.values())
    again = f", {found.twice} were run twice with equal results" if found.twice else ""
    return f"{count(new, 'record')} added{lacking}, {there} were there{again}; {count(len(failures), 'failure')} added"


def _copy_weights(one: Found, to: Path) -> bool:
    """Copy the weights that a record was made with: whether they are there."""
    cell, wanted = one.record.key, one.record.provenance.weights_sha256
    source, home = one.folder / "checkpoints" / cell, to / "checkpoints" / cell
    with suppress(FileNotFoundError):
        for name in ("last.safetensors", "best.safetensors"):
            storage.disk(one.folder).fetch(source / name)
    if wanted is None or digest_in(source / "last.safetensors") != wanted:
        return False
    for path in sorted(source.glob(WEIGHTS)):
        write_whole(home / path.name, partial(shutil.copyfile, path))
        require(storage.disk(to).push(home / path.name), f"{path.name} was not written; run the same command again")
    return True
