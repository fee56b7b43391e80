"""A loopback server with the part of the Hugging Face hub's protocol that downloads of data sets need."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

OWNER = "farama-minari"
NAMESPACE = "namespace_metadata.json"
LFS = (".hdf5", ".arrow")  # what the hub keeps as large files


@dataclass
class Hub:
    """What a loopback hub has done, and what it should do wrong.

    ``faults``: (part of "METHOD path", fault), used up in order, each by the first request that it fits; a fault is a
    status to answer, ("cut", n) to end the connection after n bytes, ("stall", n) to say no more after n bytes, with 0
    nothing at all, or ("always", status).
    """

    url: str
    faults: list[tuple[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # "METHOD path", Range
    sent: dict[str, int] = field(default_factory=dict)  # file -> bytes of its content
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def fault(self, request: str) -> Any:
        for i, (part, fault) in enumerate(self.faults):
            if part in request:
                if isinstance(fault, tuple) and fault[0] == "always":
                    return fault[1]
                del self.faults[i]
                return fault
        return None


def publish(root: Path) -> None:
    """Write what Minari keeps of the folders of sets in the store ``root``, as its hub does."""
    for repository in (p for p in root.iterdir() if p.is_dir()):
        sets = [p.parents[1].relative_to(root) for p in repository.rglob("data/metadata.json")]
        spaces = {parent for name in sets for parent in name.parents[:-1]}
        content = {
            "description": f"about {repository.name}",
            "datasets": sorted(name.as_posix() for name in sets),
            "namespaces": sorted(p.as_posix() for p in spaces if len(p.parts) > 1),
        }
        (repository / NAMESPACE).write_text(json.dumps(content))
        for space in spaces:
            if len(space.parts) > 1:
                (root / space / NAMESPACE).write_text(json.dumps({"description": f"about {space}"}))


def make(root: Path, name: str, episodes: Sequence[Any], observations: Any, actions: Any, **more: Any) -> None:
    """Let Minari write a set of ``EpisodeBuffer`` into the store ``root``."""
    import minari

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional fields that are left out
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        minari.create_dataset_from_buffers(
            name, list(episodes), observation_space=observations, action_space=actions, **more
        )


def buffers(lengths: Sequence[int], goal: bool = False, width: int = 5, seed: int = 0, actions: int = 2) -> list[Any]:
    """Random episodes; with ``goal`` their observations are dictionaries. Every other one terminates."""
    from minari.data_collector import EpisodeBuffer

    rng = np.random.default_rng(seed)
    made = []
    for number, steps in enumerate(lengths):
        plain = rng.standard_normal((steps + 1, width))
        end = np.arange(steps) == steps - 1
        made.append(
            EpisodeBuffer(
                id=number,
                observations={"observation": plain, "desired_goal": plain[:, :2].copy()} if goal else plain,
                actions=rng.uniform(-1, 1, (steps, actions)).astype(np.float32),
                rewards=rng.standard_normal(steps),
                terminations=end & (number % 2 == 0),
                truncations=end & (number % 2 == 1),
            )
        )
    return made


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub whose organisation has a repository for each folder of the Minari store ``root``."""

    def files(repository: Path) -> list[Path]:
        return sorted(p for p in repository.rglob("*") if p.is_file())

    def commit(repository: Path) -> str:
        content = b"".join(str(p).encode() + p.read_bytes() for p in files(repository))
        return hashlib.sha1(content).hexdigest()

    def etag(path: Path) -> str:
        return (hashlib.sha256 if path.suffix in LFS else hashlib.sha1)(path.read_bytes()).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

        def answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            query = parse_qs(urlsplit(self.path).query)
            request = f"{self.command} {path}"
            hub.asked.append((request, self.headers.get("Range")))
            fault = hub.fault(request)
            if isinstance(fault, int):
                self.say(b"", {}, fault)
            elif fault == ("stall", 0):
                self.stall()
            elif path == "/":
                self.say(b"hello", {})
            elif path == "/api/datasets":
                wanted = query.get("search", [""])[0]
                found = [p.name for p in sorted(root.iterdir()) if p.is_dir() and wanted in p.name]
                self.json([about(root / name) for name in found] if query.get("author") == [OWNER] else [])
            elif known := re.fullmatch(rf"/api/datasets/{OWNER}/([^/]+)(/revision/[^/]+)?", path):
                self.json(about(root / known[1])) if (root / known[1]).is_dir() else self.missing("Repo")
            elif known := re.fullmatch(rf"/api/datasets/{OWNER}/([^/]+)/tree/[^/]+/?(.*)", path):
                self.json(tree(root / known[1], known[2]))
            elif known := re.fullmatch(rf"/datasets/{OWNER}/([^/]+)/resolve/[^/]+/(.+)", path):
                self.file(root / known[1], root / known[1] / known[2], body, fault)
            else:
                self.missing("Repo")

        def file(self, repository: Path, path: Path, body: bool, fault: Any) -> None:
            if not path.is_file():
                self.missing("Entry" if repository.is_dir() else "Repo")
                return
            content, begin, status = path.read_bytes(), 0, 200
            headers = {"ETag": f'"{etag(path)}"', "X-Repo-Commit": commit(repository), "Accept-Ranges": "bytes"}
            headers["X-Linked-Size"] = str(len(content))
            wanted = self.headers.get("Range")
            if body and wanted:
                begin, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
                headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            kind, amount = fault if isinstance(fault, tuple) else ("", 0)
            end = begin + amount if kind in ("cut", "stall") else len(content)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if body:
                self.wfile.write(content[begin:end])
                self.wfile.flush()
                hub.sent[path.name] = hub.sent.get(path.name, 0) + len(content[begin:end])
            if kind == "stall":
                self.stall()

        def stall(self) -> None:
            hub.stalled.set()
            hub.ended.wait()

        def missing(self, what: str) -> None:
            self.say(b"", {"X-Error-Code": f"{what}NotFound"}, 404)

        def json(self, content: Any) -> None:
            self.say(json.dumps(content).encode(), {"Content-Type": "application/json"})

        def say(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    def about(repository: Path) -> dict[str, Any]:
        sha = commit(repository)
        return {"id": f"{OWNER}/{repository.name}", "sha": sha, "private": False, "gated": False, "siblings": []}

    def tree(repository: Path, inside: str) -> list[dict[str, Any]]:
        rows = []
        for path in files(repository):
            name = path.relative_to(repository).as_posix()
            if name.startswith(f"{inside}/") or not inside:
                row = {"type": "file", "path": name, "size": path.stat().st_size, "oid": etag(path)[:40]}
                if path.suffix in LFS:
                    row["lfs"] = {"oid": etag(path), "size": path.stat().st_size, "pointerSize": 134}
                rows.append(row)
        return rows

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        hub = Hub(f"http://127.0.0.1:{httpd.server_address[1]}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.ended.set()
            httpd.shutdown()
            thread.join()


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)


BUCKET = """
import os
import pathlib

ROOT = pathlib.Path(os.environ["BUCKET"])


class Blob:
    def __init__(self, name):
        self.name, self.path = name, ROOT / name
        self.size = self.path.stat().st_size if self.path.is_file() else None

    def download_as_bytes(self, client):
        return self.path.read_bytes()


class Client:
    @classmethod
    def create_anonymous_client(cls):
        return cls()

    def download_blob_to_file(self, blob, file):
        content = blob.path.read_bytes()
        if "DIE" in os.environ and blob.name.endswith("hdf5"):
            file.write(content[: len(content) // 2])
            file.flush()
            os._exit(9)
        file.write(content)


class Bucket:
    def __init__(self, client, name):
        assert name == "bucket"

    def blob(self, name):
        return Blob(name)

    def list_blobs(self, prefix=None):
        names = [p.relative_to(ROOT).as_posix() for p in sorted(ROOT.rglob("*")) if p.is_file()]
        return [Blob(name) for name in names if name.startswith(prefix or "")]
"""


def bucket(folder: Path) -> Path:
    """A stand-in for Google's client in ``folder``: its bucket is the folder ``$BUCKET``; ``$DIE`` ends it half-way."""
    package = folder / "google" / "cloud" / "storage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BUCKET)
    return folder
