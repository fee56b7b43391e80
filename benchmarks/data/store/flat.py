"""A set's flat arrays as one file beside it, so that opening it again reads them and nothing else.

The file is only a copy: it may be deleted at any time, and one that does not fit the data beside it, or whose bytes are
not those that were written, counts as absent. Its first line is the sha256 of all that follows, the second one says
what the arrays are (JSON, filled up with spaces), and then come their bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.trajectories import Trajectories

FILE = "flat.bin"
PART = ".flat-"  # begins the names of files that are being written
FORMAT = 1  # one more when the reading of sets changes what the arrays hold
TYPES = {  # the larger ones first, so that all of them lie at multiples of their size
    "offsets": ("<i8",),
    "rewards": ("<f8",),
    "actions": ("<i8", "<f4"),
    "states": ("<f4",),
    "terminated": ("|b1",),
}
BEGIN = 4096  # bytes before the arrays
HASH = 65  # bytes of the first line


def stamp(folder: Path) -> str:
    """What a set's files look like from outside: changes with their names, sizes and times of last change.

    Raises:
        OSError: the files cannot be looked at.
    """
    data = folder / "data"
    lines = []
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        found = path.stat()
        lines.append(f"{path.relative_to(data)} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def through(folder: Path, name: str, digest: str | None, load: Callable[[], Trajectories]) -> Trajectories:
    """The set in ``folder`` from its flat file; if none fits, what ``load`` reads, of which such a file is left.

    Args:
        folder: the set's.
        name: the set's id.
        digest: the hash that its content must have; None if any will do.
        load: reads Minari's files, with every check.
    """
    kept = read(folder, name)
    if kept is not None and digest in (None, kept.digest):
        return kept
    try:
        stamped = stamp(folder)
    except OSError:
        return load()  # which says what is the matter, if anything is
    trajectories = load()
    write(folder, trajectories, stamped)
    return trajectories


def read(folder: Path, name: str) -> Trajectories | None:
    """The set in ``folder`` from its flat file; None where there is none, or none that fits."""
    try:
        return _read(folder / FILE, name, stamp(folder))
    except Exception:  # a file of anything can lead to anything
        return None


def digest(folder: Path) -> str | None:
    """The set's hash as the flat file notes it; None where there is none, or none that fits the files beside it."""
    try:
        with (folder / FILE).open("rb") as file:
            header = json.loads(file.read(BEGIN)[HASH:])
        return str(header["digest"]) if (header["format"], header["stamp"]) == (FORMAT, stamp(folder)) else None
    except Exception:  # as for the arrays
        return None


def _read(path: Path, name: str, stamped: str) -> Trajectories | None:
    # Mapped, so that nothing is copied and processes share it. A change would stay in memory; nobody makes one, but
    # torch asks for the right to. Who replaces the file puts another in its place: this one lives while it is mapped.
    whole = np.memmap(path, np.uint8, mode="c")
    start = whole[:BEGIN].tobytes()
    header = json.loads(start[HASH:])
    if (header["format"], header["stamp"]) != (FORMAT, stamped):
        return None
    if hashlib.sha256(whole[HASH:].data).hexdigest().encode() != start[: HASH - 1]:
        return None
    made: dict[str, Any] = {}
    begin = BEGIN
    for label, types in TYPES.items():
        dtype, shape = header["arrays"][label]
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if dtype not in types or begin + size > len(whole):
            return None
        made[label] = np.asarray(whole[begin : begin + size]).view(dtype).reshape(shape)
        begin += size
    return Trajectories(**made, name=name, digest=header["digest"], n_actions=header["n_actions"])


def write(folder: Path, trajectories: Trajectories, stamped: str) -> None:
    """Put the flat file of a set of vectors into its folder, whole or not at all; in silence if it cannot be.

    Args:
        folder: the set's.
        trajectories: what was read from it.
        stamped: its ``stamp`` before that. If it has another one now, nothing is written.
    """
    arrays = {label: np.ascontiguousarray(getattr(trajectories, label)) for label in TYPES}
    header = {
        "format": FORMAT,
        "stamp": stamped,
        "digest": trajectories.digest,
        "n_actions": trajectories.n_actions,
        "arrays": {label: (array.dtype.str, array.shape) for label, array in arrays.items()},
    }
    line = json.dumps(header, sort_keys=True).encode().ljust(BEGIN - HASH - 1) + b"\n"
    part = folder / f"{PART}{os.getpid()}-{secrets.token_hex(4)}"
    with suppress(OSError):  # a folder that may only be read, a full disk: the data are there all the same
        if stamp(folder) != stamped:
            return
        try:
            with part.open("xb") as file:
                hasher = hashlib.sha256(line)
                file.write(b" " * HASH + line)
                for array in arrays.values():
                    hasher.update(array.data)
                    file.write(array.data)
                file.seek(0)
                file.write(hasher.hexdigest().encode() + b"\n")
            os.replace(part, folder / FILE)
        finally:
            part.unlink(missing_ok=True)
