"""One published array of the DQN-replay logs, read front to back from its gzip file."""

from __future__ import annotations

import gzip
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import read_header
from backbench.errors import first_line

BLOCK = 1 << 20


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise DataError(f"{path} is truncated; get the file again") from error
    except (OSError, zlib.error, ValueError, SyntaxError, tokenize.TokenError) as error:  # the last three: a bad header
        raise DataError(f"{path} cannot be read ({first_line(error)}); get the file again") from error


class Shard:
    """One array with ``size`` entries of ``dtype`` and shape ``item``. DataError for another or a broken file."""

    def __init__(self, path: Path, dtype: Any, item: tuple[int, ...] = ()) -> None:
        self.path = path
        with _reading(path), warnings.catch_warnings(action="ignore"):  # headers that Python 2 wrote
            self._file = gzip.GzipFile(path, "rb")
            try:
                shape, fortran, found = read_header(self._file)
            except BaseException:
                self._file.close()
                raise
        if found != np.dtype(dtype) or len(shape) != 1 + len(item) or shape[1:] != item or fortran or shape[0] < 1:
            self._file.close()
            wanted = f"{np.dtype(dtype)} ({', '.join(map(str, ('n', *item)))})"
            raise DataError(f"{path} holds {found} {shape}; expected {wanted}, so it does not belong to these logs")
        self.size: int = shape[0]
        self._bytes = int(np.prod(item, dtype=int)) * np.dtype(dtype).itemsize

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, out: NDArray[Any]) -> None:
        """Fill ``out`` with the next entries."""
        view, done = memoryview(out.data).cast("B"), 0
        while done < len(view):
            done += self._read(view[done : done + BLOCK])

    def skip(self, count: int) -> None:
        """Skip entries."""
        left = count * self._bytes
        scratch = memoryview(bytearray(min(left, BLOCK)))
        while left:
            left -= self._read(scratch[:left])

    def _read(self, out: memoryview) -> int:
        with _reading(self.path):
            if got := self._file.readinto(out):
                return got
            raise EOFError

    def end(self) -> None:
        """Check that the file ends here and that its checksum is right."""
        with _reading(self.path):
            if self._file.read(1):
                raise ValueError("it is longer than its header says")
