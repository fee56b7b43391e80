"""Published files, in a folder or behind HTTP. What is fetched has its name only when it is whole."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backbench.benchmarks.data.trajectories import DataError

FIRST, LOOK = 1.5, 1.9  # seconds for a connection to be made, and for all that a first look takes
CONNECT = 2.0  # seconds for one of a host's addresses to be reached
TIMEOUT = 30.0  # seconds without a sign of the server
PAUSES = (1.0, 5.0, 15.0)  # seconds before each further try
TICK = 0.1  # seconds between two calls of a progress
BLOCK = 1 << 20

Progress = Callable[[int, int | None], None]  # bytes that are there, and bytes in all where they are known
Report = Callable[[str], None]


def no_progress(done: int, total: int | None) -> None:
    """Draws nothing."""


@dataclass(frozen=True)
class Terms:
    """What a source wants of its downloads: ``strict``, where no checksum would tell two versions glued together."""

    missing: str = "; is the address of --from right?"  # what to say besides when there is no such file
    offline: str = ""  # what to say besides when nobody can be reached; empty for the same as when access is refused
    at_once: bool = False  # a first connection that cannot be made is the end; one to an unknown host always is
    strict: bool = False  # go on with a part only where the server's ETag, date or size show that it is of this file
    progress: Progress = no_progress  # called now and then while bytes arrive


USUAL = Terms()


class _Interrupted(Exception):
    """Something that another try may get past."""


class _Unreachable(_Interrupted):
    """No connection."""


def download(url: str, target: Path, forbidden: str = "", terms: Terms = USUAL, reached: bool = False) -> None:
    """Bring ``url`` to ``target``, unless it is there.

    What arrives is kept as ``<target>.part``, and what tells this version of the file from others as
    ``<target>.part.json``: the next try, or the next call, asks for the rest of that version.

    Args:
        url: the file's address.
        target: where it goes; its folder is there.
        forbidden: what to say besides when the server answers 403, or there is no network.
        terms: what else is wanted.
        reached: the server was there a moment ago: a connection that cannot be made is a passing trouble.

    Raises:
        DataError: the server refuses the file or has none, cannot be reached, or does not send all of it.
    """
    part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    for pause in (*PAUSES, None):
        if target.is_file():
            break
        try:
            _attempt(url, part, note, forbidden, terms)
            note.unlink(missing_ok=True)
            os.replace(part, target)
        except _Interrupted as problem:
            lost, unknown = isinstance(problem, _Unreachable), isinstance(problem.__cause__, socket.gaierror)
            advice = (terms.offline or forbidden) if lost else ""
            if lost and not reached and (terms.at_once or unknown):
                raise DataError(f"{url}: {problem}{advice}") from problem
            reached = reached or not lost
            if pause is None:
                kept = "; what came so far is kept: run the command again" if part.exists() else ""
                raise DataError(f"{url}: {problem}, {len(PAUSES) + 1} times in a row{kept}{advice}") from problem
            time.sleep(pause)


def _attempt(url: str, part: Path, note: Path, forbidden: str, terms: Terms) -> None:
    """Fetch what ``part`` lacks."""
    noted = _noted(note)
    have = part.stat().st_size if part.is_file() and (noted or not terms.strict) else 0
    # Stores that keep a file as gzip unpack it on the way for those who do not say this.
    headers = {"User-Agent": "backbench", "Accept-Encoding": "gzip" if url.endswith(".gz") else "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = noted.get("etag") or noted.get("modified")
        headers |= {"If-Range": version} if version else {}
    with _response(url, headers) as response:
        if response.status not in (200, 206) and not (response.status == 416 and have):
            raise _refusal(url, response.status, forbidden, terms)
        begin, total = _extent(response, have)
        version = _version(response, total)
        if begin and (total == -1 or any(noted.get(name, value) != value for name, value in version.items())):
            part.unlink()
            raise _Interrupted("the part that was here does not fit the file")
        if response.status == 416:
            return  # the part is all of it
        if not begin:
            part.unlink(missing_ok=True)  # first: a note must never stand beside a part of another version
            note.unlink(missing_ok=True)
            if terms.strict or version.keys() - {"size"}:
                note.write_text(json.dumps(version))
        with part.open("ab") as file:
            _copy(response, file, total, terms.progress)
            size = file.tell()
            os.fsync(file.fileno())
    if total is not None and size != total:
        raise _Interrupted(f"the connection ended after {size:,} of {total:,} bytes")


def _noted(note: Path) -> dict[str, Any]:
    """What was noted of the version that a part is of."""
    with suppress(OSError, ValueError):  # none, or cut short
        noted: dict[str, Any] = json.loads(note.read_text())
        return noted
    return {}


def _version(response: Any, size: int | None) -> dict[str, Any]:
    """What tells this version of a file from others, as far as it is known. A weak ETag does not."""
    etag, modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
    found = {"etag": etag if etag.startswith('"') else None, "modified": modified, "size": size}
    return {name: value for name, value in found.items() if value is not None}


def _refusal(url: str, code: int, forbidden: str, terms: Terms) -> Exception:
    if code in (408, 429) or code >= 500:
        return _Interrupted(f"the server answered {code}")
    said = {403: f"access refused (403){forbidden}", 404: f"no such file (404){terms.missing}"}
    return DataError(f"{url}: {said.get(code, f'the server answered {code}')}")


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and how long the whole file is, where the server says so."""
    said = response.headers.get("Content-Range", "")
    if response.status == 416:
        return have, have if said == f"bytes */{have}" else -1
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
        if not found or int(found[1]) != have:
            raise _Interrupted("the server sent another part of the file than was asked for")
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch(r"\d+", length) else None


def _copy(response: Any, file: IO[bytes], total: int | None, progress: Progress) -> None:
    told = -TICK
    while True:
        if time.monotonic() - told >= TICK:
            progress(file.tell(), total)
            told = time.monotonic()
        with _network():
            block = response.read1(BLOCK)  # what has come, so that a lost connection takes nothing with it
        if not block:
            break
        file.write(block)
    file.flush()
    progress(file.tell(), total)


def unreachable(address: str) -> str:
    """Why nobody can be reached there, within two seconds; nothing where somebody answers, whatever the answer is."""
    problems: list[str] = []
    # A name that cannot be resolved takes what time it likes.
    looking = threading.Thread(target=lambda: problems.append(_looked(address)), daemon=True)
    looking.start()
    looking.join(LOOK)
    return problems[0] if problems else f"{address} does not answer within {LOOK:g} seconds"


def _looked(address: str) -> str:
    try:  # a connection that cannot be made, in time or at all, is a URLError
        with suppress(urllib.error.HTTPError, TimeoutError):
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=FIRST).close()
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return f"{address}: {' '.join(str(getattr(reason, 'strerror', None) or reason).split())}"


@contextmanager
def _network() -> Iterator[None]:
    """What goes wrong on the way is worth another try."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_said(error, TIMEOUT)) from error


def _said(error: Exception, patience: float) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return f"no answer within {patience:g} seconds"
    if isinstance(reason, socket.gaierror):
        return "no network, or no such host"
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return f"connection failed ({' '.join(said.split())})"


def _response(url: str, headers: dict[str, str]) -> Any:
    """The server's answer, whatever its status."""
    request = urllib.request.Request(url, headers=headers)
    with _network():
        try:
            return urllib.request.build_opener(_Opener).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            return error


def _connect(address: tuple[str, int], timeout: float, *rest: Any) -> socket.socket:
    try:
        made = socket.create_connection(address, CONNECT, *rest)
    except OSError as error:
        raise _Unreachable(_said(error, CONNECT)) from error
    made.settimeout(timeout)
    return made


class _Opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """A host that is there has time to answer; one that is not is given up soon."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        def connection(*args: Any, **more: Any) -> Any:
            made = http_class(*args, **more)
            made._create_connection = _connect  # the library has one limit for both
            return made

        return super().do_open(connection, req, **options)


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

    def __init__(self, url: str, cache: Path, forbidden: str, keep: bool, report: Report, terms: Terms) -> None:
        self.where, self.cache, self.forbidden, self.keep, self.report = url, cache, forbidden, keep, report
        self.terms = terms

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file, fetched if need be; removed when it is broken, and with ``once`` after use."""
        path = self.cache / name
        if not path.is_file():
            try:
                download(f"{self.where}/{urllib.parse.quote(name, safe='')}", path, self.forbidden, self.terms)
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
    url: str, cache: Path, forbidden: str, keep: bool = False, report: Report = lambda _: None, terms: Terms = USUAL
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
    except BlockingIOError as error:
        os.close(handle)
        raise DataError(f"{cache} is in use by another process; wait for that one") from error
    try:
        yield Remote(url, cache, forbidden, keep, report, terms)
    finally:
        with suppress(OSError):  # not empty
            for folder in (cache, *cache.parents[:2]):
                folder.rmdir()
        os.close(handle)
