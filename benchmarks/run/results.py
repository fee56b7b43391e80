"""A cell in a folder of results: its record, the claim on it, and what a killed process left of it.

::

    records/KEY.json          the record of a cell that is done; created once, never replaced
    records/KEY.failed.json   why a cell failed; the next attempt replaces it
    checkpoints/KEY/          the weights that the record was made with
    checkpoints/KEY/000001/   the first process that claimed the cell: its claim and its checkpoints, until there is a
                              record
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from backbench import claims, reading, storage
from backbench.benchmarks.plan.settings import Cell
from backbench.claims import FILES, Claim, Disk
from backbench.errors import UserError
from backbench.files import clear_leftovers
from backbench.leaderboard.record.files import FAILED, create_record, dump_record, load_record
from backbench.leaderboard.record.schema import Record

WEIGHTS = "*.safetensors"


def finished(cell: Cell, results: Path) -> Record | None:
    """The valid record of a cell that is done; None without one. RecordError if it is broken."""
    path = cell.record_path(results)
    record = load_record(path) if path.exists() else None
    if record is not None and record.status != "done":
        raise UserError(f"{path} says that the cell failed; move it away to run the cell again")
    return record


def failure_path(cell: Cell, results: Path) -> Path:
    """Path of the record of a cell that failed."""
    return cell.record_path(results).with_suffix(FAILED)


def claim(cell: Cell, results: Path) -> Claim:
    """Claim a cell, and clear what dead processes left of it. A record that another machine made is here afterwards.
    Raises ``claims.Held``, and ``OSError``."""
    home = cell.checkpoint_folder(results)
    taken = claims.take(home, storage.observer(results))
    taken.disk.fetch(cell.record_path(results))
    clear_leftovers(home)
    return taken


def accept(cell: Cell, results: Path, record: Record, taken: Claim) -> Record:
    """Make ``record`` that of the cell, unless another process was first: the record that the cell has now.

    Raises ``claims.Lost`` for a failure that is not the last word, ``RecordError`` and ``OSError``.
    """
    path, failure, disk = cell.record_path(results), failure_path(cell, results), taken.disk
    if record.status == "done":
        disk.flush(taken.folder)
        create_record(record, path, disk.publish)
        record = load_record(path)
        with suppress(storage.StorageError):  # the next run tidies
            disk.discard(failure)
            settle(cell, results, record, disk)
    elif path.exists():
        record = load_record(path)
    else:
        with taken.writing():
            dump_record(record, failure)
        disk.push(failure)
    return record


def settle(cell: Cell, results: Path, record: Record, disk: Disk = FILES) -> None:
    """Keep the weights that the record was made with, and remove the epochs of a cell that is done."""
    home = cell.checkpoint_folder(results)
    disk.gather(home)
    there = claims.epochs(home)
    for epoch in reversed(there):
        if record.provenance.weights_sha256 in (digest_in(path) for path in epoch.glob("last.safetensors")):
            for path in sorted(epoch.glob(WEIGHTS)):  # best first: with last.safetensors all are there
                with suppress(FileNotFoundError):  # another process does the same
                    os.replace(path, home / path.name)
            break
    disk.settled(home)
    for epoch in there:
        shutil.rmtree(epoch, ignore_errors=True)
    if there:
        clear_leftovers(home)


def tidy(cells: Iterable[Cell], results: Path) -> None:
    """Finish what killed processes began: temporary files, and the epochs of cells that are done."""
    for folder in (results, results / "records"):
        clear_leftovers(folder)
    claims.clear(results)
    disk = storage.disk(results)
    for cell in cells:
        left = claims.epochs(cell.checkpoint_folder(results)) or failure_path(cell, results).exists()
        if left and (record := finished(cell, results)) is not None:
            disk.discard(failure_path(cell, results))
            settle(cell, results, record, disk)


def digest_in(path: Path) -> str | None:
    """The digest that a file of weights says it has; None if it does not say, or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        reading.check_safetensors(path)
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("sha256")
    except (SafetensorError, reading.ReadingError, OSError):
        return None
