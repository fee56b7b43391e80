"""Results on a server of objects, such as ``s3://bucket/prefix``: any that fsspec reaches and that creates once.

The truth is there. A folder on this machine mirrors it, and all other code works on the mirror: ``pull`` copies records
and plans into it, and claims, checkpoints and records go through ``Objects``, under the rules of ``claims``. Objects
have the names that files in a folder of results have, so both can be copied into each other.

Credentials are fsspec's matter: this module reads none, and refuses addresses that contain any.
"""

import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from backbench import reading, terminal
from backbench.claims import EPOCH, FILE, HERE, Change, Disk, Observer, _parsed
from backbench.errors import UserError, first_line, require
from backbench.files import write_whole

MARK = "address"  # file in a mirror
PATIENCE, TRANSFER = 30.0, 600.0  # seconds for an answer, and for a file
PAUSES = (0.3, 1.0)  # seconds before the second and the third try
MOST = 16 * reading.MB  # bytes of an object that is pulled
BATCH = 200  # objects that are pulled at once
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):/{1,2}([^/].*)")  # a Path has one slash of the two
INSIDE = re.compile(r"(.+?)/((?:records|checkpoints)/.+)")  # an address of a record, or of a cell's checkpoints
PULLED = re.compile(r"records/[^/.][^/]*\.json|runs/[^/.][^/]*\.plan")
CLAIMS = re.compile(rf"(checkpoints/[^/.][^/]*/{EPOCH.pattern})/(.+)")
_pending: set[Path] = set()  # files of this process that the server did not take


class StorageError(UserError, OSError):
    """A server that does not answer or refuses, in one line. Cells stay resumable."""


@dataclass(frozen=True)
class Objects(Disk):
    """Claims, checkpoints and records as objects below ``url``; ``root`` is the mirror. Paths are those of the mirror.

    An epoch's number is used once while a cell has no record: a claim is never removed, but marked as left or free. So
    a heartbeat that comes late changes its own claim and nobody else's.
    """

    url: str
    root: Path

    def epochs(self, home: Path) -> list[Path]:
        """See ``Disk``."""
        names = {name.split("/")[0] for name in self.listing(home)}
        return sorted((home / name for name in names if EPOCH.fullmatch(name)), key=lambda path: int(path.name))

    def read(self, folder: Path) -> bytes | None:
        """See ``Disk``."""
        return self._content(folder / FILE)

    def create(self, folder: Path, text: str) -> bool:
        """See ``Disk``."""
        folder.mkdir(parents=True, exist_ok=True)
        return self._create(folder / FILE, text.encode())

    def change(self, folder: Path, token: str, change: Change) -> bool:
        """See ``Disk``. Only the owner writes an epoch's claim, so reading and writing need not be one step."""
        text = self.read(folder)
        if text is None or token.encode() not in text:
            return False
        self._ask("pipe_file", self._name(folder / FILE), json.dumps(change(_parsed(text))).encode())
        return True

    def withdraw(self, folder: Path, token: str) -> None:
        """See ``Disk``."""
        self.change(folder, token, lambda content: content | {"state": "left"})

    def released(self, folder: Path) -> None:
        """The epoch stays, since its number is used."""

    def remove(self, folder: Path) -> None:
        """See ``Disk``. For epochs of a cell that has a record."""
        with suppress(OSError):
            self._ask("rm", self._name(folder), recursive=True)
        super().remove(folder)

    def prune(self, folder: Path, names: Sequence[str]) -> None:
        """See ``Disk``."""
        for name in (*names, FILE):
            with suppress(OSError):
                self._ask("rm_file", self._name(folder / name))
        super().prune(folder, names)

    def probe(self) -> None:
        """See ``Disk``: whether the server creates an object once."""
        trial = self.root / f"trial-{uuid.uuid4().hex}"
        once = self._create(trial, b"one") and not self._create(trial, b"two")
        self.discard(trial)
        require(once, f"{self.url}: the server does not create an object once, so no cell can be claimed; use another")

    def push(self, path: Path) -> bool:
        """See ``Disk``. If the server does not take it, the cell goes on, and this says so."""
        try:
            self.flush(path.parent)
            self._put(path)
        except StorageError as error:
            if not _pending:
                terminal.line(f"bench: {error}; the cell goes on, its checkpoints stay on this machine", error=True)
            _pending.add(path)
            return False
        return True

    def flush(self, folder: Path) -> None:
        """See ``Disk``."""
        for path in sorted(path for path in _pending if path.parent == folder):
            self._put(path)
            _pending.discard(path)

    def fetch(self, path: Path) -> None:
        """See ``Disk``. A file that is here stays."""
        if not path.exists() and (content := self._content(path, TRANSFER)) is not None:
            write_whole(path, content)

    def fetch_newest(self, home: Path, names: Sequence[str], sound: Callable[[bytes], bool]) -> None:
        """See ``Disk``."""
        for folder in reversed(self.epochs(home)):
            if (folder / names[0]).exists():
                return
            content = self._content(folder / names[0], TRANSFER)
            if content is not None and sound(content):
                for name in names[1:]:
                    (folder / name).unlink(missing_ok=True)
                    self.fetch(folder / name)
                write_whole(folder / names[0], content)
                return

    def publish(self, path: Path, text: str) -> bool:
        """See ``Disk``."""
        created = self._create(path, text.encode())
        content = text.encode() if created else self._content(path)
        require(content is not None, f"{self.url}: {path.name} was removed just now; run the same command again")
        write_whole(path, content or b"")
        return created

    def discard(self, path: Path) -> None:
        """See ``Disk``."""
        with suppress(FileNotFoundError):
            self._ask("rm_file", self._name(path))
        super().discard(path)

    def gather(self, home: Path) -> None:
        """See ``Disk``."""
        for name in self.listing(home):
            if re.fullmatch(rf"{EPOCH.pattern}/\w+\.safetensors", name):
                self.fetch(home / name)

    def settled(self, home: Path) -> None:
        """See ``Disk``."""
        for path in sorted(home.glob("*.safetensors")):
            self._put(path)
        for epoch in self.epochs(home):
            with suppress(FileNotFoundError):
                self._ask("rm", self._name(epoch), recursive=True)

    def listing(self, folder: Path, missing: bool = True) -> dict[str, Mapping[str, Any]]:
        """The objects below ``folder``: names relative to it, and what the server says of each. ``FileNotFoundError``
        if there is no bucket, unless it may be ``missing``."""
        start = self._name(folder)
        try:
            found = self._ask("find", start, detail=True)
        except FileNotFoundError:
            if not missing:
                raise
            return {}
        return {name[len(start) + 1 :]: about for name, about in found.items() if name.startswith(f"{start}/")}

    def contents(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of objects, by their names below the root. One that was removed meanwhile is left out."""
        start = self._name(self.root)
        found = self._ask("cat", [f"{start}/{name}" for name in names], on_error="omit", seconds=TRANSFER)
        return {name[len(start) + 1 :]: content for name, content in found.items()}

    def _content(self, path: Path, seconds: float = PATIENCE) -> bytes | None:
        try:
            return bytes(self._ask("cat_file", self._name(path), seconds=seconds))
        except FileNotFoundError:
            return None

    def _create(self, path: Path, content: bytes) -> bool:
        """Create an object once. After a lost answer, a second try finds the first one's object."""
        try:
            self._ask("pipe_file", self._name(path), content, mode="create")
        except FileExistsError:
            return self._content(path) == content
        return True

    def _put(self, path: Path) -> None:
        self._ask("put_file", str(path), self._name(path), seconds=TRANSFER)

    def _name(self, path: Path) -> str:
        """The name of the object that ``path`` mirrors."""
        below = path.relative_to(self.root).as_posix()
        start = str(_filesystem(self.url, os.getpid())[1]).rstrip("/")
        return start if below == "." else f"{start}/{below}"

    def _ask(self, operation: str, *arguments: Any, seconds: float = PATIENCE, **named: Any) -> Any:
        """An operation of fsspec, bounded in time and tried again. Raises ``FileNotFoundError``, ``FileExistsError`` or
        ``StorageError``."""
        act = getattr(_filesystem(self.url, os.getpid())[0], operation)
        for pause in (*PAUSES, None):
            try:
                return _bounded(lambda: act(*arguments, **named), seconds)
            except (FileNotFoundError, FileExistsError, StorageError):
                raise
            except PermissionError as error:
                said = "access is denied; check the credentials of this process, and what they may do"
                raise StorageError(f"{self.url}: {said}") from error
            except Exception as error:
                if pause is None or isinstance(error, TimeoutError):
                    remedy = "check the address, the network and the credentials"
                    raise StorageError(f"{self.url}: {first_line(error, 120)}; {remedy}") from error
                time.sleep(pause)
        raise AssertionError


def _bounded(act: Callable[[], Any], seconds: float) -> Any:
    """What ``act`` returns or raises, within ``seconds``. Not every file system has a limit of its own."""
    came: list[Any] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            came.append(act())
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if wrong:
        raise wrong[0]
    if not came:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return came[0]


@cache
def _filesystem(url: str, _process: int) -> tuple[Any, str]:
    """fsspec's file system for ``url``, and the path in it. UserError: it knows none. One a process: after a fork
    connections are another's."""
    import fsspec

    try:
        found, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UserError(f"{url}: {first_line(error)}; s3 needs: pip install 'backbench[storage]'") from error
    except Exception as error:  # each file system has its own
        raise UserError(f"{url}: {first_line(error)}; give s3://bucket/prefix, or a folder") from error
    return found, str(path)


def is_address(where: str | Path) -> bool:
    """Whether ``where`` is the address of a server, not a path."""
    return ADDRESS.fullmatch(str(where)) is not None


def folder(where: str | Path) -> Path:
    """The folder of results ``where``, or the mirror of its address. UserError: an address that cannot be used."""
    match = ADDRESS.fullmatch(str(where))
    if match is None:
        return Path(where)
    url = f"{match[1]}://{match[2].rstrip('/')}"
    require("@" not in url and "?" not in url, f"{match[1]}://…: leave credentials out of the address; see {REMEDY}")
    _filesystem(url, os.getpid())
    mirror = _mirrors() / hashlib.sha256(url.encode()).hexdigest()[:16]
    if not (mirror / MARK).exists():
        write_whole(mirror / MARK, url)
    return mirror


REMEDY = "your server's tools, such as aws configure"


def _mirrors() -> Path:
    given = os.environ.get("BACKBENCH_MIRRORS") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    base = Path(given).expanduser().absolute()
    return base if os.environ.get("BACKBENCH_MIRRORS") else base / "backbench" / "mirrors"


def observer(results: Path) -> Observer:
    """Who looks at the claims of a folder of results: at files, or for a mirror at objects."""
    try:
        url = reading.text(results / MARK, 4096)
    except reading.ReadingError:
        return HERE
    return _observer(url, results)


@cache
def _observer(url: str, results: Path) -> Observer:
    return Observer(disk=Objects(url, results))


def disk(results: Path) -> Disk:
    """Where the claims and files of a folder of results are."""
    return observer(results).disk


def address(results: Path) -> str:
    """What another process is told to find a folder of results: its address if it is a mirror, else its whole path."""
    where = disk(results)
    return where.url if isinstance(where, Objects) else str(results.absolute())


def name(results: Path) -> str:
    """How to call a folder of results in a line for people."""
    return address(results) if isinstance(disk(results), Objects) else f"{results}/"


def pull(where: str | Path, claims: bool = False) -> Path:
    """The folder of ``where``. Its mirror then has all records and plans, and with ``claims`` copies of claims.

    ``where`` may be a record or a cell's checkpoints too. A path that is no address is returned as it is. Raises
    ``UserError``.
    """
    if not is_address(where):
        return Path(where)
    inside = INSIDE.fullmatch(str(where))
    root = folder(inside[1] if inside else where)
    objects = disk(root)
    assert isinstance(objects, Objects)
    # Before the server is asked: a record that is made meanwhile is not in this list.
    before = {path.relative_to(root).as_posix(): path for path in _copies(root, claims)}
    try:
        there = objects.listing(root, missing=False)
    except FileNotFoundError as error:
        raise StorageError(f"{objects.url}: {first_line(error)}; create the bucket, or name another") from error
    for key in there:
        if (match := CLAIMS.fullmatch(key)) is not None:  # ``tidy`` finds what a late owner left
            (root / match[1]).mkdir(parents=True, exist_ok=True)
    wanted = {key: about for key, about in there.items() if _wanted(key, claims)}
    for key in before.keys() - wanted.keys():
        before[key].unlink(missing_ok=True)
    _copy(objects, {key: about for key, about in wanted.items() if not _same(root / key, about)})
    return root / inside[2] if inside else root


def _copies(root: Path, claims: bool) -> list[Path]:
    return [*root.glob("records/[!.]*.json"), *(root.glob(f"checkpoints/[!.]*/*/{FILE}") if claims else ())]


def _wanted(key: str, claims: bool) -> bool:
    match = CLAIMS.fullmatch(key)
    return PULLED.fullmatch(key) is not None or (claims and match is not None and match[2] == FILE)


def _copy(objects: Objects, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    for key, about in wanted.items():
        if int(about.get("size") or 0) > MOST:
            raise StorageError(f"{objects.url}/{key} is larger than any record; move it away")
    keys = sorted(wanted)
    for start in range(0, len(keys), BATCH):
        for key, content in objects.contents(keys[start : start + BATCH]).items():
            write_whole(objects.root / key, content)
            if (changed := _changed(wanted[key])) is not None:
                os.utime(objects.root / key, (changed, changed))


def _same(path: Path, about: Mapping[str, Any]) -> bool:
    """Whether a record's copy is as the server has it: size and time. Other files change within a second."""
    if path.parent.name != "records" or path.name.endswith(".failed.json"):
        return False
    with suppress(OSError):
        known = path.stat()
        return known.st_size == about.get("size") and known.st_mtime == _changed(about)
    return False


def _changed(about: Mapping[str, Any]) -> float | None:
    times = [about.get(key) for key in ("LastModified", "last_modified", "updated", "mtime", "created")]
    return next((float(int(one.timestamp())) for one in times if isinstance(one, datetime)), None)
