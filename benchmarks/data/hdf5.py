"""Foreign HDF5 files: what a file declares is compared with its size before anything is allocated.

Arrays of numbers in the file itself are read, and nothing else: no link to elsewhere, no virtual or external array, no
objects, no filter but the usual ones. ``trial`` finds files that crash the library.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench import reading
from backbench.errors import one_line
from backbench.reading import MB, ReadingError

MOST = 256 * 1024 * MB  # bytes of a file
FLOOR, RATIO = 64 * MB, 8  # arrays may take so many bytes in all, and so many for each of the file's
SPARE = 512 * MB  # memory of a trial beyond the arrays
CHUNK = 64 * MB  # bytes that are stored together
ROW = 4 * MB  # bytes of one picture or text
FILTERS = {1: "gzip", 2: "shuffle", 3: "checksum", 4: "szip", 32000: "lzf"}  # numbers of HDF5's registry
Where = tuple[str, ...]  # names of groups, then of an array


class Contents(AbstractContextManager["Contents"]):
    """What a foreign HDF5 file holds. Methods raise ``ReadingError``; where HDF5 fails, it says so.

    ``left`` is how many bytes may still be read. ``ratio`` replaces ``RATIO`` for arrays that compress better.
    """

    def __init__(self, path: Path, ratio: int = RATIO) -> None:
        import h5py

        self.path = path
        with reading.opened(path, MOST) as file:
            self.size = file.seek(0, 2)
        self.left = FLOOR + ratio * self.size
        try:
            self._file = h5py.File(path, "r", locking="best-effort")  # some network folders have no locks
        except Exception as error:  # h5py raises many kinds for a broken file
            raise ReadingError(path, f"cannot be read as HDF5 ({one_line(error)})") from error

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def claim(self, size: int, what: str) -> None:
        """Count ``size`` bytes that ``what`` takes. ``ReadingError`` for more than the file can mean."""
        self.left -= size
        if self.left < 0:
            raise ReadingError(self.path, f"declares more than its {self.size:,} bytes can hold: {what} of {size:,}")

    def names(self, *where: str) -> list[str]:
        """What the group at ``where`` holds, by name."""
        with self._reading(where):
            found: list[str | bytes] = list(self._group(where))  # bytes where a name is no UTF-8
            return [name if isinstance(name, str) else name.decode("utf-8", "backslashreplace") for name in found]

    def has(self, *where: str) -> bool:
        """Whether there is something at ``where``, a link to elsewhere included."""
        with self._reading(where):
            return bool(self._group(where[:-1]).id.links.exists(where[-1].encode()))

    def is_array(self, *where: str) -> bool:
        """Whether the file's own entry at ``where`` is an array."""
        import h5py

        with self._reading(where):
            return isinstance(self._find(where), h5py.Dataset)

    def integer(self, where: Where, name: str) -> int | None:
        """An attribute of the group at ``where`` that is one whole number; None if it is absent or anything else."""
        from h5py import h5a, h5t

        with self._reading(where):
            here = self._group(where).id
            if not h5a.exists(here, name.encode()):
                return None
            found = h5a.open(here, name.encode())
            if found.shape != () or found.get_type().get_class() != h5t.INTEGER:
                return None
            value = np.zeros((), found.dtype)
            found.read(value)
            return int(value)

    def shape(self, *where: str) -> tuple[int, ...]:
        """The shape of an array, of which nothing is read."""
        return self._array(where).shape  # type: ignore[no-any-return]

    def dtype(self, *where: str) -> Any:
        """The type of an array, of which nothing is read."""
        return self._array(where).dtype

    def array(self, *where: str) -> NDArray[Any]:
        """An array of numbers, complete."""
        found = self._array(where)
        self.claim(_bytes(found.shape, found.dtype.itemsize), f"'{'/'.join(where)}'")
        with self._reading(where):
            return found[()]  # type: ignore[no-any-return]

    def rows(self, where: Where, block: int) -> Iterator[NDArray[Any]]:
        """An array of numbers, at most ``block`` entries at a time."""
        found = self._array(where)
        self.claim(_bytes(found.shape, found.dtype.itemsize), f"'{'/'.join(where)}'")
        for first in range(0, found.shape[0], block):
            with self._reading(where):
                part = found[first : first + block]
            yield part

    def texts(self, where: Where) -> Iterator[bytes]:
        """The entries of a list of byte strings, such as pictures in files: of one length (uint8), or each of its own.

        At most ``ROW`` bytes each.
        """
        found = self._array(where, variable=True)
        for index in range(found.shape[0]):
            with self._reading(where):
                entry = np.asarray(found[index])
            if entry.dtype != np.uint8 or entry.ndim != 1 or entry.nbytes > ROW:
                raise ReadingError(self.path, f"'{'/'.join(where)}' has an entry that is no list of bytes")
            self.claim(entry.nbytes, f"'{'/'.join(where)}'")
            yield entry.tobytes()

    def _group(self, where: Where) -> Any:
        import h5py

        found = self._find(where)
        if not isinstance(found, h5py.Group):
            raise ReadingError(self.path, f"has '{'/'.join(where)}', which is no group")
        return found

    def _find(self, where: Where) -> Any:
        """What is at ``where``, reached through the file's own names only."""
        import h5py
        from h5py import h5l

        here: Any = self._file
        for depth, name in enumerate(where):
            links, said = here.id.links, f"'{'/'.join(where[: depth + 1])}'"
            if not name or "/" in name or not links.exists(name.encode()):
                raise ReadingError(self.path, f"has no {said}")
            if links.get_info(name.encode()).type != h5l.TYPE_HARD:
                raise ReadingError(self.path, f"has a link to elsewhere at {said}, which is not followed")
            here = here[name]
            if depth + 1 < len(where) and not isinstance(here, h5py.Group):
                raise ReadingError(self.path, f"has {said}, which is no group")
        return here

    def _array(self, where: Where, variable: bool = False) -> Any:
        """The array at ``where``, after a look at all that it declares."""
        with self._reading(where):
            found = self._find(where)
            if problem := self._problem(found, variable):
                raise ReadingError(self.path, f"has '{'/'.join(where)}', {problem}")
            return found

    def _problem(self, found: Any, variable: bool) -> str:
        """Why an array is not read; empty if it may be."""
        from h5py import Dataset, h5d, h5t

        if not isinstance(found, Dataset):
            return "which is no array"
        made, kind = found.id.get_create_plist(), found.id.get_type()
        numbers = kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
        if variable and kind.get_class() == h5t.VLEN:
            numbers = kind.get_super().get_class() == h5t.INTEGER
        # h5py does not know all numbers of HDF5, and says so when it is asked for the type.
        if not numbers or kind.get_size() > 16 or (found.dtype.hasobject and not variable):
            return f"of type {found.dtype}, not numbers"
        if made.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED) or made.get_external_count():
            return "whose content is in another file"
        filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
        if unknown := [str(code) for code in filters if code not in FILTERS]:
            return f"which is compressed by filter {unknown[0]}; only {', '.join(FILTERS.values())} are read"
        if found.shape is None:
            return "which has no shape"
        stored, declared = found.id.get_storage_size(), math.prod(found.shape) * kind.get_size()
        if stored > self.size:
            return f"which declares {stored:,} bytes in a file of {self.size:,}"
        if made.get_layout() != h5d.CHUNKED:
            return f"which holds {stored:,} of {declared:,} bytes" if stored < declared else ""
        if _bytes(found.chunks, kind.get_size()) > CHUNK:
            return f"which is stored in pieces of more than {CHUNK:,} bytes"
        pieces = math.prod(-(-size // chunk) for size, chunk in zip(found.shape, found.chunks, strict=True))
        held = found.id.get_num_chunks()
        return f"of which {pieces - held:,} of {pieces:,} pieces are missing" if held < pieces else ""

    def _reading(self, where: Where) -> AbstractContextManager[None]:
        return _Reading(self.path, where)


class _Reading(AbstractContextManager[None]):
    """Turns what h5py raises, which is of many kinds, into a ``ReadingError``."""

    def __init__(self, path: Path, where: Where) -> None:
        self._path, self._where = path, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ReadingError | MemoryError):
            said = f"cannot be read at '{'/'.join(self._where)}' ({one_line(error)})"
            raise ReadingError(self._path, said) from error


def _bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array. An empty side counts as one, since loops and other arrays are as long as its longest."""
    return math.prod(max(1, size) for size in shape) * itemsize
