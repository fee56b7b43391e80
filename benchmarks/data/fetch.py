"""Published files, in a folder or behind HTTP. What is fetched has its name only when it is whole."""

from __future__ import annotations

import fcntl
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from backbench.benchmarks.data.trajectories import DataError

TIMEOUT = 30.0  # seconds without a sign of the server
PAUSES = (1.0, 5.0, 15.0)  # seconds before each further try
BLOCK = 1 << 20


class _Interrupted(Exception):
    """Something that another try may get past."""


def download(url: str, target: Path, forbidden: str = "") -> None:
    """Bring ``url`` to ``target``, unless it is there.

    What arrives is kept as ``<target>.part``: the next try, or the next call, asks for the rest.

    Args:
        url: the file's address.
        target: where it goes; its folder is there.
        forbidden: what to say besides when the server answers 403, or there is no network.

    Raises:
        DataError: the server refuses the file or has none, cannot be reached, or does not send all of it.
    """
    part = target.with_name(target.name + ".part")
    for pause in (*PAUSES, None):
        if target.is_file():
            break
        try:
            _attempt(url, part, forbidden)
            os.replace(part, target)
        except _Interrupted as problem:
            if pause is None:
                kept = "; what came so far is kept: run the command again" if part.exists() else ""
                raise DataError(f"{url}: {problem}, {len(PAUSES) + 1} times in a row{kept}") from problem
            time.sleep(pause)


def _attempt(url: str, part: Path, forbidden: str) -> None:
    """Fetch what ``part`` lacks."""
    have = part.stat().st_size if part.is_file() else 0
    # Stores that keep a file as gzip unpack it on the way for those who do not say this.
    headers = {"User-Agent": "backbench", "Accept-Encoding": "gzip"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _network(url, forbidden):
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:
                if error.headers.get("Content-Range", "") == f"bytes */{have}":
                    return  # the part is all of it
                part.unlink()
                raise _Interrupted("the part that was here does not fit the file") from error
        raise _refusal(url, error.code, forbidden) from error
    with response:
        begin, total = _extent(response, have)
        with part.open("r+b" if part.exists() else "w+b") as file:
            file.seek(begin)
            file.truncate()
            _copy(response, file)
            size = file.tell()
            os.fsync(file.fileno())
    if total is not None and size != total:
        raise _Interrupted(f"the connection ended after {size:,} of {total:,} bytes")


def _refusal(url: str, code: int, forbidden: str) -> Exception:
    if code == 403:
        return DataError(f"{url}: access refused (403){forbidden}")
    if code == 404:
        return DataError(f"{url}: no such file (404); is the address of --from right?")
    if code in (408, 429) or code >= 500:
        return _Interrupted(f"the server answered {code}")
    return DataError(f"{url}: the server answered {code}")


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the whole file is, where the server says so."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            raise _Interrupted("the server sent another part of the file than was asked for")
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _copy(response: http.client.HTTPResponse, file: IO[bytes]) -> None:
    while True:
        with _network():
            block = response.read(BLOCK)
        if not block:
            break
        file.write(block)
    file.flush()


@contextmanager
def _network(url: str = "", forbidden: str = "") -> Iterator[None]:
    """What goes wrong on the way is worth another try."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise _Interrupted(f"no answer within {TIMEOUT:g} seconds") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, socket.gaierror):  # another try would only take time
            raise DataError(f"{url}: no network, or no such host{forbidden}") from error
        if isinstance(reason, TimeoutError):
            raise _Interrupted(f"no answer within {TIMEOUT:g} seconds") from error
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise _Interrupted(f"connection failed ({' '.join(said.split())})") from error


class Folder:
    """Files in a folder of the user's; they are only read."""

    local = True
    where = "folder"  # a path says nothing to others

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file; raises ``DataError`` when there is none."""
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; put it there, or give another folder with --from")
        yield path


class Remote:
    """Files below an address, kept in a folder of one's own."""

    local = False

    def __init__(self, url: str, cache: Path, forbidden: str, keep: bool, report: Callable[[str], None]) -> None:
        self.where, self.cache, self.forbidden, self.keep, self.report = url, cache, forbidden, keep, report

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file, fetched if need be.

        A file that turns out to be broken is removed, so that it is fetched anew; with ``once`` it is removed after use
        too, unless all are to be kept.
        """
        path = self.cache / name
        if not path.is_file():
            try:
                download(f"{self.where}/{urllib.parse.quote(name, safe='')}", path, self.forbidden)
            except OSError as error:
                raise DataError(f"cannot write to {self.cache}: {error.strerror or error}") from error
            self.report(f"fetched {name} ({path.stat().st_size / 1e6:,.1f} MB)")
        try:
            yield path
        except DataError:
            path.unlink(missing_ok=True)
            raise
        if once and not self.keep:
            path.unlink(missing_ok=True)


@contextmanager
def remote(
    url: str, cache: Path, forbidden: str, keep: bool = False, report: Callable[[str], None] = lambda line: None
) -> Iterator[Remote]:
    """Files below ``url``; no other process uses ``cache`` meanwhile, and no empty folder stays behind.

    Raises:
        DataError: another process uses ``cache``, or it cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        handle = os.open(cache, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot write to {cache}: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Remote(url, cache, forbidden, keep, report)
    except BlockingIOError as error:
        raise DataError(f"{cache} is in use by another process; wait for that one") from error
    finally:
        os.close(handle)
        with suppress(OSError):  # not empty
            for folder in (cache, *cache.parents[:2]):
                folder.rmdir()
