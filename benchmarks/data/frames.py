"""Single frames of a data set on disk, read one window at a time and stacked when sampled.

Consecutive stacks of four share three frames, so stored stacks would take four times the space. Memory-mapped pages
would count as resident once touched. So one ``pread`` call reads each window, whose frames lie side by side.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbench import reading
from backbench.benchmarks.environments.atari.protocol import STACK
from backbench.errors import UserError

FrameArray = NDArray[np.uint8]
MOST = 1 << 44  # bytes of a file, of which windows are read
LARGEST = 1 << 16  # pixels of a frame
HEADER = 128  # bytes of a file's header, which is written last


class Frames:
    """The frames of all episodes, one after another: uint8 ``shape`` (frames, height, width) in one NumPy file."""

    def __init__(self, path: Path, stack: int = STACK) -> None:
        """Open ``path``, a ``.npy`` file. UserError if it is none, or its length does not fit its header."""
        self.path, self.stack = path, stack
        self._file: int | None = None
        try:
            with reading.opened(path, MOST) as file:
                shape, fortran, dtype, self._start = reading.npy_header(file.read)
                size = os.fstat(file.fileno()).st_size
        except reading.ReadingError as error:
            raise UserError(f"frames {error}") from error
        except ValueError as error:
            raise UserError(f"frames {path} cannot be read: {error}") from error
        if dtype != np.uint8 or len(shape) != 3 or fortran:
            raise UserError(f"frames {path}: {dtype} {shape}; expected uint8 (frames, height, width)")
        self.shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        if not 0 < shape[1] * shape[2] <= LARGEST:
            raise UserError(f"frames {path}: frames of {shape[1:]} have no pixels, or more than {LARGEST:,}")
        if size != self._start + math.prod(self.shape):
            raise UserError(f"frames {path}: {size} bytes do not fit {shape[0]} frames; it was truncated")

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Shape of one state: (stack, height, width)."""
        return (self.stack, *self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}

    def _descriptor(self) -> int:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY)
        return self._file

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            os.close(self._file)  # type: ignore[arg-type]

    def read(self, first: int, out: FrameArray) -> None:
        """Fill ``out`` (n, height, width), contiguous, with the frames from ``first`` on."""
        size = self.shape[1] * self.shape[2]
        view, done = memoryview(out.data).cast("B"), 0
        while done < len(view):
            got = os.preadv(self._descriptor(), [view[done:]], self._start + first * size + done)
            if got == 0:
                raise UserError(f"frames {self.path}: the file ends before frame {first + len(out) - 1}")
            done += got

    def windows(self, firsts: Sequence[int], begins: Sequence[int], counts: Sequence[int], context: int) -> FrameArray:
        """Windows of ``context`` states, as the frames that they are stacked from.

        An episode's first frame is repeated before it, as in the environment. Zeros follow a window's last state. Each
        (batch,): ``firsts`` is the frame of a window's first state, ``begins`` the first of its episode, ``counts`` its
        number of states. Returns uint8 (batch, stack - 1 + K, height, width). State k is frames k to k + stack - 1.
        """
        before = self.stack - 1
        out = np.empty((len(firsts), before + context, *self.shape[1:]), dtype=np.uint8)
        self.advise(firsts, counts)
        for row, first, begin, count in zip(out, firsts, begins, counts, strict=True):
            missing = max(0, begin - (first - before))
            end = before + count
            self.read(first - before + missing, row[missing:end])
            row[:missing] = row[missing]
            row[end:] = 0
        return out

    def advise(self, firsts: Sequence[int], counts: Sequence[int]) -> None:
        """Tell the operating system which windows are read next, so that it fetches them together."""
        size = self.shape[1] * self.shape[2]
        for first, count in zip(firsts, counts, strict=True):
            begin = max(0, first - self.stack + 1)
            length = (first + count - begin) * size
            os.posix_fadvise(self._descriptor(), self._start + begin * size, length, os.POSIX_FADV_WILLNEED)

    def blocks(self, size: int = 4096) -> Iterator[FrameArray]:
        """All frames in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            block = np.empty((min(size, len(self) - first), *self.shape[1:]), dtype=np.uint8)
            self.read(first, block)
            yield block


@contextmanager
def writing(path: Path, height: int = 84, width: int = 84) -> Iterator[Callable[[FrameArray], None]]:
    """A function that appends frames (n, height, width) to a new file, which is removed if the block fails."""
    count = 0
    with path.open("wb") as file:

        def append(frames: FrameArray) -> None:
            nonlocal count
            if frames.dtype != np.uint8 or frames.shape[1:] != (height, width):
                raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected uint8 (n, {(height, width)})")
            file.write(np.ascontiguousarray(frames).data)
            count += len(frames)

        try:
            file.write(b" " * HEADER)
            yield append
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(count, height, width)}, }}"
        file.seek(0)
        file.write(b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little"))
        file.write(text.encode().ljust(HEADER - 11) + b"\n")
        file.flush()
        os.fsync(file.fileno())
