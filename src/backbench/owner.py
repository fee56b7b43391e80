"""Names of processes: who left a file, and is that process still alive?

A name is ``MACHINE-PID-START``, all hexadecimal: a hash of the boot and of the PID namespace, the process id, and the
time at which the process started, which tells it from a later one with the same id.
"""

import hashlib
import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

PATTERN = r"[0-9a-f]{8}-[0-9a-f]+-[0-9a-f]+"


def me() -> str:
    """The name of this process."""
    return _name(os.getpid())


def lives(name: str) -> bool | None:
    """Whether the process called ``name`` is alive; None if it is on another machine, or ``name`` is no name."""
    if not re.fullmatch(PATTERN, name) or (parts := name.split("-"))[0] != _machine():
        return None
    return _started(int(parts[1], 16)) == int(parts[2], 16)


@cache
def _name(pid: int) -> str:
    return f"{_machine()}-{pid:x}-{_started(pid) or 0:x}"


@cache
def _machine() -> str:
    """A hash of what this machine's processes share. Two containers differ: their process ids mean other processes."""
    known = os.uname().nodename
    with suppress(OSError):
        known += Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        known += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(known.encode()).hexdigest()[:8]


def _started(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None if there is no such process, or it is a zombie."""
    try:
        # The name of the program, in brackets, may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
