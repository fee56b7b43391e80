"""Small files in D4RL's layout, and a server for them that can misbehave."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import Pull, d4rl

SIZES = {"halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6), "ant": (111, 8)}


def flat(terminals: Sequence[bool], timeouts: Sequence[bool], environment: str = "hopper", seed: int = 0) -> Any:
    """The arrays of a file, no two numbers in them equal, except that next observations go on to the next step."""
    n, (o, a) = len(terminals), SIZES[environment]
    rng = np.random.default_rng(seed)
    observations = rng.standard_normal((n, o)).astype(np.float32)
    following = rng.standard_normal((n, o)).astype(np.float32)
    for t in range(n - 1):
        if not (terminals[t] or timeouts[t]):
            following[t] = observations[t + 1]
    return {
        "observations": observations,
        "next_observations": following,
        "actions": rng.uniform(-1, 1, (n, a)).astype(np.float32),
        "rewards": rng.standard_normal(n).astype(np.float32),
        "terminals": np.array(terminals, dtype=bool),
        "timeouts": np.array(timeouts, dtype=bool),
    }


def episodes(lengths: Sequence[int], terminated: Sequence[bool], rest: int = 0, **more: Any) -> Any:
    """The arrays of whole episodes, and of one that is cut off after ``rest`` steps."""
    ends = [step == n - 1 for n in lengths for step in range(n)] + [False] * rest
    kinds = [kind for n, kind in zip(lengths, terminated, strict=True) for _ in range(n)] + [False] * rest
    terminals = [end and kind for end, kind in zip(ends, kinds, strict=True)]
    return flat(terminals, [end and not kind for end, kind in zip(ends, kinds, strict=True)], **more)


def write(path: Path, arrays: Any, **options: Any) -> Path:
    """Put arrays into a file, beside what D4RL's have besides; ``options`` are of the arrays' HDF5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
        file["infos/qpos"] = np.full((3, 2), np.nan)  # of another length, and no numbers: not to be looked at
        file["metadata/algorithm"] = "SAC"
    return path


@dataclass
class Server:
    """What a loopback server has done, and what it should do wrong.

    ``faults`` are used up, one a request: a status to answer; ``("cut", n)``, stop after n bytes; ``("stall", s)``, for
    s seconds in the middle; ``("hang", s)`` before the answer; ``("longer", n)`` and ``("shorter", n)``, announce so
    many bytes too many, or too few and send no more; ``"whole"``, ignore Range; ``"deaf"``, ignore If-Range;
    ``("call", f)``, call f first.
    """

    url: str
    folder: Path
    validators: tuple[str, ...] = ("ETag", "Last-Modified")
    faults: list[Any] = field(default_factory=list)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # file, Range, If-Range
    sent: int = 0  # bytes of files


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of the files in a folder."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
            server.asked.append((name, wanted, condition))
            fault = server.faults.pop(0) if server.faults else None
            kind, amount = fault if isinstance(fault, tuple) else (fault, 0)
            if kind == "hang":
                time.sleep(amount)
            if kind == "call":
                amount()
            if isinstance(kind, int) or not (folder / name).is_file():
                self.send_error(kind or 404)
                return
            content = (folder / name).read_bytes()
            version = {
                "ETag": f'"{hashlib.md5(content).hexdigest()}"',
                "Last-Modified": self.date_time_string(int((folder / name).stat().st_mtime)),
            }
            said = {header: version[header] for header in server.validators}
            if kind == "whole" or (condition and kind != "deaf" and condition not in said.values()):
                wanted = None
            begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            for header, value in said.items():
                self.send_header(header, value)
            wrong = {"longer": amount, "shorter": -amount}.get(kind, 0) if isinstance(amount, int) else 0
            self.send_header("Content-Length", str(len(content) - begin + wrong))
            self.end_headers()
            body = content[begin:]
            if kind in ("cut", "shorter"):
                body = body[: amount if kind == "cut" else -amount]
            try:
                if kind == "stall":
                    self.wfile.write(body[: len(body) // 2])
                    time.sleep(amount)
                    body = body[len(body) // 2 :]
                self.wfile.write(body)
                server.sent += len(body)
            except OSError:  # the other side has gone
                pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        server = Server(f"http://127.0.0.1:{httpd.server_address[1]}/offline_rl", folder)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()


NAME, FILE = "d4rl/hopper/medium-v2", "hopper_medium-v2.hdf5"
ARRAYS = episodes([30, 1, 20], [True, True, False], rest=4)


def pull(location: str | Path, name: str = NAME, **options: Any) -> Any:
    """Fetch a set into the store; returns it. ``options`` are those of ``Pull``."""
    d4rl.SOURCE.fetch(name, Pull(str(location), **({"report": lambda line: None} | options)))
    return store.load(name)


def cache(root: Path) -> Path:
    return root / ".cache" / "d4rl" / "hopper_medium-v2"


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) if root.is_dir() else []
