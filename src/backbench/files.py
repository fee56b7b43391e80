"""Files that are written completely or not at all."""

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backbench import owner

Content = str | bytes | Callable[[Path], object]
LEFTOVER = re.compile(rf"\..+\.({owner.PATTERN})\.[0-9a-f]{{8}}\.tmp")  # hidden, so no listing of results meets it
ABANDONED = 24 * 3600.0  # seconds after which a process of another machine has left its file


def write_whole(path: Path, content: Content) -> None:
    """Write a file under a temporary name beside it, flush it to disk, and move it into place.

    Args:
        path: the file; its folder is created.
        content: text (written as UTF-8), bytes, or a function that writes the path it gets.

    Raises:
        OSError: the file cannot be written; an older one is untouched. So is what ``content`` raises.
    """
    temporary = _written(path, content)
    try:
        os.replace(temporary, path)
    finally:
        _remove(temporary)
    _flush(path.parent)


def create_whole(path: Path, content: Content) -> bool:
    """``write_whole``, unless there is such a file: whether this call created it. Of any number of calls one does.

    A hard link puts the file in place. On a file system without them a kill may leave an empty file.
    """
    temporary = _written(path, content)
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            if os.stat(temporary).st_nlink == 1:  # 2: over NFS an answer may be lost, and the retry finds its own link
                return False
        except OSError:  # which error says "no links here" depends on the file system; creating says the rest
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                return False
            os.replace(temporary, path)
    finally:
        _remove(temporary)
    _flush(path.parent)
    return True


def clear_leftovers(folder: Path) -> None:
    """Remove the files and folders that dead processes left half-written in ``folder``, or, on other machines, left for
    a day."""
    for path in folder.glob(".*.tmp"):
        if (match := LEFTOVER.fullmatch(path.name)) and abandoned(path, match[1]):
            _remove(path)


def abandoned(path: Path, name: str) -> bool:
    """Whether the process ``name`` (see ``owner``), which wrote ``path``, does not work on it any more."""
    alive = owner.lives(name)
    try:
        return not alive if alive is not None else time.time() - path.stat().st_mtime > ABANDONED
    except OSError:
        return False


def temporary_name(name: str) -> str:
    """A hidden name for a file or folder that this process makes, which ``LEFTOVER`` matches."""
    return f".{name[:80]}.{owner.me()}.{uuid.uuid4().hex[:8]}.tmp"


def _written(path: Path, content: Content) -> Path:
    """A temporary file beside ``path`` with the content, flushed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        _remove(temporary)
        raise
    return temporary


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Flush a folder, which has the names of its files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
