"""Published files in the user's folder, or downloaded over HTTP: resumed after interruptions, complete or absent."""

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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backbench import reading
from backbench.benchmarks.data.errors import DataError, Progress, no_progress
from backbench.benchmarks.data.sources.source import Pull
from backbench.claims import Held, alone
from backbench.errors import one_line
from backbench.files import write_whole

FIRST, LOOK = 1.5, 1.9  # seconds that ``unreachable`` waits for a connection, and in total
CONNECT = 2.0  # seconds to connect to one of a host's addresses
TIMEOUT = 30.0  # seconds without data from the server
PAUSES = (1.0, 5.0, 15.0)  # seconds before each further try
TICK = 0.1  # seconds between two calls of a progress
BLOCK = 1 << 20


@dataclass(frozen=True)
class Terms:
    """How a source wants its files downloaded. The first three are ends of error messages."""

    forbidden: str = ""  # for the answer 403
    missing: str = "; is the address of --from right?"  # for the answer 404
    offline: str = ""  # for a host that cannot be reached; empty for the same as ``forbidden``
    at_once: bool = False  # give up when the first connection fails; an unknown host always ends the download
    # Resume only if the server's ETag, date or size show that the part belongs to this version of the file. Needed
    # where no checksum would find two versions joined.
    strict: bool = False
    progress: Progress = no_progress


class _Interrupted(Exception):
    """A problem that another try may solve."""


class _Unreachable(_Interrupted):
    """No connection."""


def download(url: str, target: Path, terms: Terms) -> None:
    """Download ``url`` to ``target``, unless the file is there.

    Arriving bytes go to ``<target>.part``, and the version of the file to ``<target>.part.json``. The next try, or the
    next call, asks for the rest of that version. Raises ``DataError`` if the server refuses the file or has none,
    cannot be reached, or does not send all of it.
    """
    part, note = target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
    reached = False
    for pause in (*PAUSES, None):
        if target.is_file():
            break
        try:
            _attempt(url, part, note, terms)
            note.unlink(missing_ok=True)
            os.replace(part, target)
        except _Interrupted as problem:
            lost, unknown = isinstance(problem, _Unreachable), isinstance(problem.__cause__, socket.gaierror)
            advice = (terms.offline or terms.forbidden) if lost else ""
            if lost and not reached and (terms.at_once or unknown):
                raise DataError(f"{url}: {problem}{advice}") from problem
            reached = reached or not lost
            if pause is None:
                kept = "; the part so far is kept: run the command again" if part.exists() else ""
                raise DataError(f"{url}: {problem}, {len(PAUSES) + 1} times in a row{kept}{advice}") from problem
            time.sleep(pause)


def _attempt(url: str, part: Path, note: Path, terms: Terms) -> None:
    """Download what ``part`` lacks."""
    recorded: dict[str, Any] = {}  # the version that the part belongs to
    with suppress(OSError, ValueError):
        recorded = reading.read_json(note)
        recorded = recorded if isinstance(recorded, dict) else {}
    have = part.stat().st_size if part.is_file() and (recorded or not terms.strict) else 0
    # Some stores keep files as gzip and unpack them on the way unless the client accepts gzip.
    headers = {"User-Agent": "backbench", "Accept-Encoding": "gzip" if url.endswith(".gz") else "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = recorded.get("etag") or recorded.get("modified")
        headers |= {"If-Range": version} if version else {}
    with _response(url, headers) as response:
        code = response.status
        if code in (408, 429) or code >= 500:
            raise _Interrupted(f"the server answered {code}")
        if code not in (200, 206) and not (code == 416 and have):
            said = {403: f"access refused (403){terms.forbidden}", 404: f"no such file (404){terms.missing}"}
            raise DataError(f"{url}: {said.get(code, f'the server answered {code}')}")
        begin, total = _extent(response, have)
        version = _version(response, total)
        if begin and (total == -1 or any(recorded.get(name, value) != value for name, value in version.items())):
            part.unlink()
            raise _Interrupted("the part from before does not fit the file")
        if code == 416:
            return  # the part is complete
        if not begin:
            part.unlink(missing_ok=True)  # first: a note must never lie beside a part of another version
            note.unlink(missing_ok=True)
            if terms.strict or version.keys() - {"size"}:
                write_whole(note, json.dumps(version))
        with part.open("ab") as file:
            _copy(response, file, total, terms.progress)
            size = file.tell()
            os.fsync(file.fileno())
    if total is not None and size != total:
        raise _Interrupted(f"the connection ended after {size:,} of {total:,} bytes")


def _version(response: Any, size: int | None) -> dict[str, Any]:
    """What identifies this version of a file. A weak ETag does not."""
    etag, modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified")
    found = {"etag": etag if etag.startswith('"') else None, "modified": modified, "size": size}
    return {name: value for name, value in found.items() if value is not None}


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """The index of the answer's first byte, and the file's length: None if unknown, -1 if it is not ``have``."""
    said = response.headers.get("Content-Range", "")
    if response.status == 416:
        return have, have if said == f"bytes */{have}" else -1
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
        if not found or int(found[1]) != have:
            raise _Interrupted("the server sent another part of the file than requested")
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
            block = response.read1(BLOCK)  # what has arrived, so that a lost connection loses nothing
        if not block:
            break
        file.write(block)
    file.flush()
    progress(file.tell(), total)


def unreachable(address: str) -> str:
    """Why the host of ``address`` does not answer, within two seconds. Empty if it answers, whatever the answer."""
    problems: list[str] = []
    # Resolving a name has no time limit of its own.
    probe = threading.Thread(target=lambda: problems.append(_probe(address)), daemon=True)
    probe.start()
    probe.join(LOOK)
    return problems[0] if problems else f"{address} does not answer within {LOOK:g} seconds"


def _probe(address: str) -> str:
    try:  # a failed connection is a URLError, also after a timeout
        with suppress(urllib.error.HTTPError, TimeoutError):
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=FIRST).close()
        return ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"{address}: {_reason(error)}"


@contextmanager
def _network() -> Iterator[None]:
    """Errors of the connection allow another try."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_in_words(error, TIMEOUT)) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return one_line(reason) if isinstance(reason, BaseException) else str(reason)


def _in_words(error: Exception, patience: float) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, TimeoutError):
        return f"no answer within {patience:g} seconds"
    if isinstance(reason, socket.gaierror):
        return "no network, or no such host"
    return f"connection failed ({_reason(error)})"


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
        raise _Unreachable(_in_words(error, CONNECT)) from error
    made.settimeout(timeout)
    return made


class _Opener(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects within ``CONNECT`` seconds, and then waits ``TIMEOUT`` seconds for answers."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        def connection(*args: Any, **more: Any) -> Any:
            made = http_class(*args, **more)
            made._create_connection = _connect  # the library has one limit for both
            return made

        return super().do_open(connection, req, **options)


def is_address(location: str, option: str) -> bool:
    """Whether ``location`` is an address, not a folder. DataError if it has credentials or is no http(s)."""
    scheme, colon, _ = location.partition("://")
    if not colon:
        return False
    try:
        parts = urllib.parse.urlsplit(location)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc) and bool(parts.hostname)
    except ValueError:
        plain = False
    if scheme.lower() not in ("http", "https") or not plain:  # the message must not show a password
        raise DataError(f"{option}: give a folder, or an http(s) address without name, password, ? and #")
    return True


@dataclass(frozen=True)
class Folder:
    """Files in a folder of the user's. They are only read."""

    folder: Path
    local = True
    where = "folder"  # recorded instead of a path, which means nothing to others

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file. DataError if it is missing."""
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; put it there, or give another folder with --from")
        yield path


@dataclass(frozen=True)
class Remote:
    """Files below the address ``where``, downloaded to ``cache``."""

    where: str
    cache: Path
    how: Pull
    terms: Terms
    local = False

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file, downloaded if it is missing.

        The file is removed if the block raises ``DataError``, and with ``once`` also after use.
        """
        path = self.cache / name
        if not path.is_file():
            try:
                download(f"{self.where}/{urllib.parse.quote(name, safe='')}", path, self.terms)
            except OSError as error:
                raise DataError(f"cannot write to {self.cache}: {error.strerror or error}") from error
            self.how.report(f"fetched {name} ({path.stat().st_size / 1e6:,.1f} MB)")
        try:
            yield path
        except DataError:
            path.unlink(missing_ok=True)
            raise
        if once and not self.how.keep:
            path.unlink(missing_ok=True)


@contextmanager
def remote(url: str, cache: Path, how: Pull, terms: Terms) -> Iterator[Remote]:
    """Files below ``url``. No other process uses ``cache`` meanwhile (DataError), and no empty folder stays behind."""
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(cache / ".claim-download", wait=False))
            except Held as held:
                raise DataError(f"{cache} is in use by {held}; wait until it is done") from held
            except OSError as error:
                raise DataError(f"cannot write to {cache}: {error.strerror or error}") from error
            yield Remote(url, cache, how, terms)
    finally:
        with suppress(OSError):  # not empty
            for folder in (cache, *cache.parents[:2]):
                folder.rmdir()
