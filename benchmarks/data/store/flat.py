"""A copy of a data set's flat arrays in one file, ``flat.bin``, which opens without parsing Minari's files.

You may delete it at any time. If it does not fit the data beside it, or its bytes have changed, it counts as absent.
Its first line is the sha256 of all that follows. The second describes the arrays (JSON, padded). Then come their bytes.
"""

import hashlib
import json
import math
import mmap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench import reading
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.files import write_whole

FILE = "flat.bin"
PART = f".{FILE}."  # prefix of the files that ``write_whole`` is still writing
FORMAT = 1  # raise it when reading a data set gives other arrays
# Larger items first, so that every array is aligned.
TYPES: dict[str, tuple[str, ...]] = {
    "offsets": ("<i8",), "rewards": ("<f8",), "actions": ("<i8", "<f4"), "states": ("<f4",), "terminated": ("|b1",)
}  # fmt: skip
MOST = 1 << 44  # bytes of the file, which is mapped, not read
BEGIN = 4096  # bytes before the arrays
HASH = 65  # bytes of the first line


def stamp(folder: Path) -> str:
    """A hash of the names, sizes and times of a data set's files. OSError if they cannot be read.

    Who copies a folder can set the time of modification, but not that of the last change (``ctime``). So a flat file
    that arrives with a data set never counts, whatever it claims to be a copy of.
    """
    data = folder / "data"
    found = {path.relative_to(data): path.stat() for path in sorted(data.rglob("*")) if path.is_file()}
    lines = [f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for path, stat in found.items()]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def read(folder: Path, name: str) -> Trajectories | None:
    """The data set in ``folder`` from its flat file. None if no file fits."""
    with suppress(Exception):  # a damaged file can raise anything
        return _read(folder / FILE, name, stamp(folder))
    return None


def digest(folder: Path) -> str | None:
    """The data set's hash as recorded in the flat file. None if no file fits."""
    with suppress(Exception), reading.opened(folder / FILE, MOST) as file:  # as in ``read``
        header = json.loads(file.read(BEGIN)[HASH:])
        return str(header["digest"]) if (header["format"], header["stamp"]) == (FORMAT, stamp(folder)) else None
    return None


def _read(path: Path, name: str, stamped: str) -> Trajectories | None:
    # Mapped, so that nothing is copied and processes share the memory. Copy-on-write, since torch wants writable
    # arrays. Replacing the file leaves the mapped one alive.
    with reading.opened(path, MOST) as file:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    start = content[:BEGIN].tobytes()
    header = json.loads(start[HASH:])
    if (header["format"], header["stamp"]) != (FORMAT, stamped):
        return None
    if hashlib.sha256(content[HASH:].data).hexdigest().encode() != start[: HASH - 1]:
        return None
    made, begin = dict[str, Any](), BEGIN
    for label, types in TYPES.items():
        dtype, shape = header["arrays"][label]
        if dtype not in types or any(type(side) is not int or side < 0 for side in shape):
            return None
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if begin + size > len(content):
            return None
        made[label] = np.asarray(content[begin : begin + size]).view(dtype).reshape(shape)
        begin += size
    return Trajectories(**made, name=name, digest=header["digest"], n_actions=header["n_actions"])


def write(folder: Path, trajectories: Trajectories, stamped: str) -> None:
    """Write the flat file of a data set, unless its ``stamp`` is no longer ``stamped``. A failure is silent."""
    arrays = {label: np.ascontiguousarray(getattr(trajectories, label)) for label in TYPES}
    header = {
        "format": FORMAT,
        "stamp": stamped,
        "digest": trajectories.digest,
        "n_actions": trajectories.n_actions,
        "arrays": {label: (array.dtype.str, array.shape) for label, array in arrays.items()},
    }
    line = json.dumps(header, sort_keys=True).encode().ljust(BEGIN - HASH - 1) + b"\n"
    hasher = hashlib.sha256(line)
    for array in arrays.values():
        hasher.update(array.data)

    def content(path: Path) -> None:
        with path.open("xb") as file:
            file.write(hasher.hexdigest().encode() + b"\n" + line)
            for array in arrays.values():
                file.write(array.data)

    with suppress(OSError):  # a read-only folder or a full disk: reading works without the copy
        if stamp(folder) == stamped:
            write_whole(folder / FILE, content)
