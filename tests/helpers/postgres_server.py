"""A PostgreSQL on loopback for tests, with its own folder: ``with server() as address``. It keeps fsync on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OWNER = "postgres"  # PostgreSQL refuses root; Debian's package has this account


def _program(name: str) -> str | None:
    """Debian has ``initdb`` outside of the path."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return shutil.which(name, path=os.pathsep.join([*map(str, newest[-1:]), os.environ.get("PATH", "")]))


def missing() -> str:
    """Why there can be no PostgreSQL here; empty if there can."""
    absent = [name for name in ("initdb", "pg_ctl") if _program(name) is None]
    return f"PostgreSQL's {', '.join(absent)} is not installed: make cluster-tools" if absent else ""


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database, as SQLAlchemy writes it."""
    as_owner: dict[str, Any] = {"user": OWNER, "group": OWNER, "extra_groups": []} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    if as_owner:
        shutil.chown(folder, OWNER, OWNER)

    def run(name: str, *words: str) -> None:
        command = [str(_program(name)), "-D", str(folder / "data"), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_owner)

    try:
        run("initdb", "--username", "tests", "--auth", "trust", "--encoding", "UTF8")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=on"
        run("pg_ctl", "--wait", "--log", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://tests@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "--wait", "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
