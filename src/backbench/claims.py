"""Claims: one process at a time does a thing, on any file system, with no lock of the kernel.

A claim is a file that is created once, ``HOME/EPOCH/claim.json``. The next process to claim the same home takes the
next epoch, once the process before has released it or is dead. On this machine a process is dead if it is gone. On
another machine it is dead if its file has not changed for ``LEASE`` seconds on the clock of the process that looks: the
owner counts a heartbeat in it. No two clocks are ever compared.

A paused process may wake after its claim was taken. It writes in the folder of its own epoch, so it harms nothing, and
``Claim.check`` tells it.

``Disk`` is where claims are. On a server of objects (``storage``) the rules are the same.
"""

import json
import os
import random
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbench import owner, reading
from backbench.files import clear_leftovers, create_whole

LEASE, BEAT = 120.0, 10.0  # seconds
FILE, FIRST = "claim.json", "000001"
EPOCH = re.compile("[0-9]{6,18}")
MOST = 4096  # bytes of a claim that are read
OVER = ("free", "left")  # states of a claim that its owner released, or took back before it held anything
Change = Callable[[dict[str, Any]], dict[str, Any]]


class Held(Exception):
    """Another process has the claim; the message says which."""


class Lost(Exception):
    """Another process took this claim, or it is over."""


class Disk:
    """Claims in files, and what is done with the files that a claim protects: here nothing, they are in their place.

    A folder is that of an epoch, a home that of all epochs of a thing.
    """

    def epochs(self, home: Path) -> list[Path]:
        """The folders of all epochs, in order."""
        return epochs(home)

    def read(self, folder: Path) -> bytes | None:
        """The text of a claim; None if there is none, and empty if it cannot be read."""
        try:
            return reading.content(folder / FILE, MOST)
        except reading.ReadingError as error:
            return None if error.missing else b""

    def create(self, folder: Path, text: str) -> bool:
        """Create a claim once: whether this call did."""
        try:
            return create_whole(folder / FILE, text)
        except FileNotFoundError:  # somebody else removed the empty folder
            return False

    def change(self, folder: Path, token: str, change: Change) -> bool:
        """Change a claim that has ``token``: whether it is there. It is written in place, never anew: a folder that was
        removed stays so. The length stays the same."""
        try:
            with (folder / FILE).open("rb+") as file:
                text = file.read(MOST)
                if token.encode() not in text:
                    return False
                file.seek(0)
                file.write(json.dumps(change(_parsed(text))).encode())
        except FileNotFoundError:
            return False
        return True

    def withdraw(self, folder: Path, token: str) -> None:
        """Take back a claim that only asked."""
        self.remove(folder)

    def released(self, folder: Path) -> None:
        """A claim was released: an epoch without content is removed."""
        if os.listdir(folder) == [FILE]:
            self.remove(folder)

    def remove(self, folder: Path) -> None:
        """Remove an epoch."""
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another epoch is there
            folder.parent.rmdir()

    def prune(self, folder: Path, names: Sequence[str]) -> None:
        """Remove the claim and the files called ``names`` of an epoch, and the epoch if it has no other file."""
        clear_leftovers(folder)
        for name in (*names, FILE):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()

    def probe(self) -> None:
        """Raise ``UserError`` unless claims can be made here."""

    def push(self, path: Path) -> bool:
        """A file of this epoch was written: whether others can read it now."""
        return True

    def flush(self, folder: Path) -> None:
        """Others can read all files of this epoch, or ``OSError``."""

    def fetch(self, path: Path) -> None:
        """Make a file that others wrote readable here, if there is one."""

    def fetch_newest(self, home: Path, names: Sequence[str], sound: Callable[[bytes], bool]) -> None:
        """``fetch`` the files of the newest epoch whose first one is ``sound``."""

    def publish(self, path: Path, text: str) -> bool:
        """Create a file once: whether this call did. Else the first one's is there."""
        return create_whole(path, text)

    def discard(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def gather(self, home: Path) -> None:
        """Make the weights of all epochs readable here."""

    def settled(self, home: Path) -> None:
        """What ``home`` has is for all, and its epochs are over."""


FILES = Disk()


@dataclass
class Observer:
    """Who looks at claims: its name, its clock, how it tells dead processes, where claims are, and what it saw when."""

    name: Callable[[], str] = owner.me
    clock: Callable[[], float] = time.monotonic
    lives: Callable[[str], bool | None] = owner.lives
    disk: Disk = FILES
    seen: dict[Path, tuple[bytes, float]] = field(default_factory=dict)
    gave_up: set[str] = field(default_factory=set)  # tokens that this process may have created, without an answer

    def holder(self, folder: Path) -> str:
        """Who holds the claim of an epoch, in words; empty if nobody does."""
        text = self.disk.read(folder)
        if text is None:
            return ""
        content = _parsed(text)
        if content.get("state") in OVER or content.get("token") in self.gave_up:
            return ""
        who = f"process {content.get('pid', '?')} on {content.get('host', 'an unknown machine')}"
        alive = self.lives(str(content.get("owner", "")))
        if alive is None:
            before, since = self.seen.get(folder, (b"", 0.0))
            if text != before:
                self.seen[folder] = (text, self.clock())
                return who
            alive = self.clock() - since < LEASE
        return who if alive else ""


HERE = Observer()


@dataclass(frozen=True)
class Claim:
    """A claim that this process holds, or the process that started it."""

    folder: Path
    """The folder of its epoch, where only its owner writes."""
    token: str
    disk: Disk = FILES

    @property
    def home(self) -> Path:
        """The folder of all epochs."""
        return self.folder.parent

    def check(self) -> None:
        """Raise ``Lost`` if another process took the claim, or it is over."""
        text = self.disk.read(self.folder)
        if text is None or self.token not in text.decode("utf-8", "replace"):
            raise Lost(f"the claim {self.folder} is over")
        for newer in self.disk.epochs(self.home):
            text = self.disk.read(newer) if _number(newer) > _number(self.folder) else None
            if text is not None and _parsed(text).get("state") not in ("asks", "left"):
                raise Lost(f"another process took the claim {self.home}")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A block that writes into the folder. Raises ``Lost`` before it, or for a folder that was removed meanwhile.

        It goes on while a server does not answer: nobody else writes there."""
        with suppress(OSError):
            self.check()
        try:
            yield
        except Exception:
            with suppress(OSError):
                self.check()
            raise

    def beat(self) -> None:
        """Show that the owner is alive. Raises ``Lost`` as ``check`` does."""
        self.check()
        self._change(lambda content: content | {"beat": f"{int(content.get('beat', 0)) + 1:012d}"})

    def release(self) -> None:
        """Let others claim the next epoch. What is in the folder stays; without content it is removed."""
        with suppress(OSError, Lost):
            self._change(lambda content: content | {"state": "free"})
            self.disk.released(self.folder)

    def remove(self) -> None:
        """Release the claim and remove its folder."""
        self.release()
        self.disk.remove(self.folder)

    def prune(self, *names: str) -> None:
        """Remove the files called ``names`` of earlier epochs, and those epochs that then have no other file."""
        for earlier in self.disk.epochs(self.home):
            if _number(earlier) < _number(self.folder):
                self.disk.prune(earlier, names)

    def _change(self, change: Change) -> None:
        if not self.disk.change(self.folder, self.token, change):
            raise Lost(f"the claim {self.folder} is over")


def epochs(home: Path) -> list[Path]:
    """The folders of all epochs, in order."""
    with suppress(OSError):
        return sorted((home / name for name in os.listdir(home) if EPOCH.fullmatch(name)), key=_number)
    return []


def holder_of(home: Path, observer: Observer = HERE) -> str:
    """Who holds ``home``, in words; empty if nobody does. A first look believes a claim of another machine."""
    return next((who for one in reversed(observer.disk.epochs(home)) if (who := observer.holder(one))), "")


def silence(home: Path) -> float:
    """Seconds since the newest claim on ``home`` changed, if its owner is on another machine, else 0. It compares two
    clocks, so it is for people to read."""
    for one in epochs(home)[-1:]:
        with suppress(OSError):
            changed = (one / FILE).stat().st_mtime
            if owner.lives(str(_parsed(FILES.read(one) or b"").get("owner", ""))) is None:
                return max(0.0, time.time() - changed)
    return 0.0


def _number(folder: Path) -> int:
    return int(folder.name)


def take(home: Path, observer: Observer = HERE) -> Claim:
    """Claim ``home``, whose folder is created. Raises ``Held``, or ``OSError`` if it cannot be written.

    Nobody else holds it then: who creates a claim only asks, looks at all others once more, and steps back if one is
    held or newer. Of two processes that create one each, at least one sees the other.
    """
    disk = observer.disk
    there = disk.epochs(home)
    _refuse_held(there, observer)
    mine = home / (f"{int(there[-1].name) + 1:06d}" if there else FIRST)
    claim = Claim(mine, uuid.uuid4().hex, disk)
    content = {
        "owner": observer.name(), "host": os.uname().nodename, "pid": os.getpid(), "token": claim.token,
        "beat": f"{0:012d}", "state": "asks",
    }  # fmt: skip
    try:
        if not disk.create(mine, json.dumps(content)):
            raise Held(observer.holder(mine) or "another process")
        try:
            others = [one for one in disk.epochs(home) if one != mine]
            if others and _number(others[-1]) > _number(mine):
                raise Held(observer.holder(others[-1]) or "another process")
            _refuse_held(others, observer)
            claim._change(lambda content: content | {"state": "held"})
        except Held:
            disk.withdraw(mine, claim.token)
            raise
        except Lost:  # somebody else removed its folder
            raise Held("another process") from None
    except OSError:
        observer.gave_up.add(claim.token)
        raise
    return claim


def _refuse_held(there: list[Path], observer: Observer) -> None:
    for one in there:
        if who := observer.holder(one):
            raise Held(who)


@contextmanager
def beating(claim: Claim) -> Iterator[Claim]:
    """Beat in a thread of this process while the block runs, and release the claim at its end."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                claim.beat()
            except Lost:
                return
            except OSError:  # a full disk, a server that is away: the next beat may succeed
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        over.set()
        thread.join()
        claim.release()


@contextmanager
def alone(home: Path, wait: bool = True) -> Iterator[Claim]:
    """Run a block while no other process runs its own; nothing is left behind. ``Held`` if it does not ``wait``."""
    while True:
        try:
            claim = take(home)
            break
        except Held:
            if not wait:
                raise
            time.sleep(random.uniform(0.02, 0.1))  # two that step back from each other meet no second time
    claim.prune()
    with beating(claim):
        try:
            yield claim
        finally:
            claim.remove()


def clear(folder: Path) -> None:
    """Remove what dead processes left of ``alone`` in ``folder``, for homes called ``.claim-…``."""
    for home in folder.glob(".claim-*"):
        with suppress(Held, OSError), alone(home, wait=False):
            pass


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
