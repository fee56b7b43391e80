"""Files that are written completely or not at all, and locks between processes."""

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER = ".*.tmp"  # what a killed process leaves of ``write_whole``; hidden, so no listing of results meets it


def write_whole(path: Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside it, flush it to disk, and move it into place.

    Args:
        path: the file; its folder is created.
        content: text (written as UTF-8), bytes, or a function that writes the path it gets.

    Raises:
        OSError: the file cannot be written; an older one is untouched. So is what ``content`` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``. Call it only while you hold the folder."""
    for leftover in folder.glob(LEFTOVER):
        leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold the lock of a file (created if it is missing) or of a folder; yields its descriptor.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
        OSError: it cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield handle
    finally:
        os.close(handle)
