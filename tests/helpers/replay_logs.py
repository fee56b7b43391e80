"""Small logs in the layout of DQN-replay, a server for them that can misbehave, and a second opinion on the choice."""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from backbench.benchmarks.data.sources.dqn_select import Choice, Log

KINDS = ("observation", "action", "reward", "terminal")


@dataclass
class Buffer:
    """The four arrays of one buffer, by kind."""

    number: int
    arrays: dict[str, Any]

    def log(self) -> Log:
        a = self.arrays
        return Log(self.number, a["action"], a["reward"], a["terminal"] != 0, len(a["action"]))


def frame_of(step: int) -> Any:
    """A picture that says which step it is: its number in the first four bytes, then something that is never zero."""
    frame = np.full((84, 84), step % 251, dtype=np.uint8)
    frame[0, :5] = [*step.to_bytes(4, "little"), 255]
    return frame


def step_of(frame: Any) -> int:
    """The step that a picture is of."""
    assert frame[0, 4] == 255
    return int.from_bytes(bytes(frame[0, :4].tolist()), "little")


def agent(lengths: Sequence[int], size: int, first: int, n_actions: int = 4, padding: int = 3) -> list[Buffer]:
    """What an agent leaves that plays episodes of these lengths: as many full buffers as there are, from ``first`` on.

    Action and reward of a step are functions of its number, and so is its picture.
    """
    rows: list[tuple[Any, int, float, int]] = []
    step = 0
    for length in lengths:
        rows += [(np.zeros((84, 84), np.uint8), 0, 0.0, 0)] * padding
        for place in range(length):
            rows.append((frame_of(step), *row_of(step, n_actions), int(place == length - 1)))
            step += 1
    types = (np.uint8, np.int32, np.float32, np.uint8)
    buffers = []
    for number, begin in enumerate(range(0, len(rows) - size + 1, size), first):
        columns = zip(*rows[begin : begin + size], strict=True)
        arrays = {kind: np.array(c, dtype=t) for kind, c, t in zip(KINDS, columns, types, strict=True)}
        buffers.append(Buffer(number, arrays))
    return buffers


def row_of(step: int, n_actions: int = 4) -> tuple[int, float]:
    """Action and reward of a step; the action is not 0 where the reward is."""
    return (step * 7 + 1) % n_actions, float((step * 5) % 3 - 1)


def packed(array: Any) -> bytes:
    """A gzipped NumPy array."""
    raw = io.BytesIO()
    np.save(raw, array)
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def name_of(kind: str, number: int) -> str:
    return f"$store$_{kind}_ckpt.{number}.gz"


def write(folder: Path, buffers: Sequence[Buffer]) -> Path:
    """Put the files into a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for buffer in buffers:
        for kind in KINDS:
            (folder / name_of(kind, buffer.number)).write_bytes(packed(buffer.arrays[kind]))
    return folder


def expected_visits(buffers: Sequence[Buffer], choice: Choice) -> list[tuple[int, list[tuple[int, int]]]]:
    """The choice once more, entry by entry, as the Decision Transformer's code goes through a buffer."""
    by_number = {b.number: b.arrays for b in buffers}
    rng = np.random.default_rng(choice.seed)
    candidates = [n for n in range(50) if n >= 50 - choice.buffers]
    position: dict[int, int] = {}
    visits, count = [], 0
    while count < choice.transitions:
        number = candidates[rng.integers(0, len(candidates))]
        terminal = by_number[number]["terminal"].tolist()
        action, reward = by_number[number]["action"].tolist(), by_number[number]["reward"].tolist()
        i = position.get(number, -1)
        if i == -1:
            i = 0
            if number != 0:
                while i < len(terminal) and not terminal[i]:
                    i += 1
                i += 1
        episodes, begin, steps = [], i, 0
        while len(episodes) < choice.trajectories_per_buffer and i < len(terminal):
            if terminal[i]:
                episodes.append((begin, i + 1))
                head = slice(begin, begin + 3)
                padded = not any(action[head]) and not any(reward[head]) and not any(terminal[head])
                steps += i + 1 - begin - (3 if padded else 0)
                begin = i + 1
            i += 1
        if len(episodes) == choice.trajectories_per_buffer:
            position[number] = i
            visits.append((number, episodes))
            count += steps
        else:
            candidates.remove(number)
    return visits


@dataclass
class Server:
    """What a loopback server has done, and what it should do wrong.

    ``faults`` are used up, one a request: a status to answer; ``("cut", n)``, stop after n bytes; ``("hang", seconds)``
    before the answer; ``("longer", n)`` and ``("shorter", n)``, announce so many bytes too many, or too few and send no
    more; ``"whole"``, ignore Range; ``("elsewhere", n)``, send the part that begins n bytes before what was asked for.
    """

    url: str
    faults: list[Any] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # file, Range


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of the files below a folder."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = folder / unquote(self.path).lstrip("/")
            wanted = self.headers.get("Range")
            server.asked.append((path.name, wanted))
            fault = server.faults.pop(0) if server.faults else None
            kind, amount = fault if isinstance(fault, tuple) else (fault, 0)
            if kind == "hang":
                time.sleep(amount)
            if isinstance(kind, int) or not path.is_file():
                self.send_error(kind or 404)
                return
            content, begin = path.read_bytes(), 0
            if wanted and kind != "whole":
                begin = int(wanted.removeprefix("bytes=").removesuffix("-")) - (amount if kind == "elsewhere" else 0)
                if begin >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            self.send_response(206 if wanted and kind != "whole" else 200)
            if wanted and kind != "whole":
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            wrong = {"longer": amount, "shorter": -amount}.get(kind, 0)
            self.send_header("Content-Length", str(len(content) - begin + wrong))
            self.end_headers()
            end = {"cut": begin + amount, "shorter": len(content) - amount}.get(kind, len(content))
            self.wfile.write(content[begin:end])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()
