"""Follow one cell from the command to its first loss: how many files, and how far its backbone's name travels.

Run ``PYTHONPATH=src python tools/trace_cell.py``. The cell runs in this process (a worker's work is done inline).
It prints the files on the call stack of the first loss, the files in which any function ran before it, and the
functions that got the backbone's name as an argument, directly or in a tuple. The data set must be in the store:
run it twice.
"""

from __future__ import annotations

import importlib
import multiprocessing.context
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {Path(__file__).resolve()}
NAME = "mamba"
WORDS = ["run", "--backbone", NAME, "--task", "hopper-medium", "--preset", "smoke", "--jobs", "1", "--track", "none"]


class Inline:
    """Stands in for a process: its work is done here, when it is started."""

    pid, exitcode = None, 0

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], **_: Any) -> None:
        self.target, self.args = target, args

    def start(self) -> None:
        self.target(*self.args)

    def join(self) -> None:
        """Nothing is left to wait for."""

    def is_alive(self) -> bool:
        return False


@cache
def product_file(name: str) -> str | None:
    """A file of the product below the repository's root; None for others."""
    if name.startswith("<"):
        return None
    path = Path(name).resolve()
    inside = path.is_relative_to(ROOT) and path not in SKIPPED and ".venv" not in path.parts
    return str(path.relative_to(ROOT)) if inside else None


def carries(values: Mapping[str, Any], code: Any) -> bool:
    """Whether an argument of this call is the name, or a tuple or list with it."""
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found = [values.get(name) for name in names]
    parts = [part for value in found for part in (value if isinstance(value, tuple | list) else (value,))]
    return any(isinstance(part, str) and part == NAME for part in parts)


def main() -> None:
    """Trace the command of this checkout, print what was found, and end at the first loss."""
    files: dict[str, None] = {}
    calls: dict[str, None] = {}

    def hear(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<") or (name := product_file(code.co_filename)) is None:
            return
        files[name] = None
        if carries(frame.f_locals, code):
            calls[f"{name}:{code.co_name}"] = None
        if (name, code.co_name) == ("agents/agent.py", "loss"):
            sys.setprofile(None)
            show(list(files), list(calls), frame)

    sys.argv = ["bench", *WORDS, "--out", tempfile.mkdtemp()]
    multiprocessing.context.SpawnContext.Process = Inline  # type: ignore[misc, assignment]
    module = "backbench.benchmarks.cli.app" if (ROOT / "benchmarks" / "cli").is_dir() else "backbench.benchmarks.cli"
    entry = importlib.import_module(module).main
    sys.setprofile(hear)
    entry()


def show(files: list[str], calls: list[str], frame: FrameType | None) -> None:
    """Print and leave. ``frame`` is the call of the loss."""
    stack: dict[str, None] = {}
    while frame is not None:
        if name := product_file(frame.f_code.co_filename):
            stack[name] = None
        frame = frame.f_back
    print(*reversed(stack), f"{len(stack)} files are on the stack from the command to the loss", "", sep="\n")
    print(*files, f"a function ran in {len(files)} files before the first loss", "", *calls, sep="\n")
    rooms = ("agents", "backbones", "benchmarks", "configs", "leaderboard", "src/backbench")
    paths = {path.resolve() for room in rooms for path in (ROOT / room).rglob("*.py")} | {ROOT / "setup.py"}
    lines = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    print(f"{sum(lines):,} lines of product code; a file that is not empty has {median(filter(None, lines)):.0f}", "\n")
    through = {call.partition(":")[0] for call in calls}
    print(f"{len(calls)} functions get the backbone's name, in {len(through)} files", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
