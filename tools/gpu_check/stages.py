"""Stages as processes: each has a time limit, and says what it finds line by line, so that a late end loses little."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_check.settings import Budget, Settings

MODULE = "gpu_check.child"
DONE, FAILED, LATE, SKIPPED = "done", "failed", "out of time", "skipped"


@dataclass(frozen=True)
class Stage:
    """A stage: its name, and the seconds that it may take and needs."""

    name: str
    title: str
    limit: float
    least: float  # with less time left it is skipped


@dataclass
class Result:
    """What became of a stage."""

    name: str
    status: str = DONE
    seconds: float = 0.0
    error: str = ""  # one line, empty if it is done
    findings: list[dict[str, Any]] = field(default_factory=list)

    def found(self, kind: str) -> list[dict[str, Any]]:
        """The findings of this kind."""
        return [one for one in self.findings if one.get("kind") == kind]


def run(group: Sequence[Stage], settings: Settings, budget: Budget, log: Path) -> list[Result]:
    """Run stages side by side until they end, or their limit or the budget does. What they print goes to ``log``."""
    running = [_Running(stage, settings, min(stage.limit, budget.left), log) for stage in group]
    try:
        while [one for one in running if one.alive]:
            time.sleep(0.05)
    finally:
        for one in running:
            one.kill()
    return [one.result for one in running]


class _Running:
    """A stage's process, with all that it starts in a group of its own."""

    def __init__(self, stage: Stage, settings: Settings, seconds: float, log: Path) -> None:
        self.stage, self.seconds, self.began = stage, seconds, time.monotonic()
        self.result = Result(stage.name)
        self.process: subprocess.Popen[bytes] | None = None
        if seconds < stage.least:
            self.result.status = SKIPPED
            self.result.error = f"{seconds:.0f} s of the budget were left, and it needs {stage.least:.0f}"
            return
        self.findings, self.printed = (log.with_name(f".{stage.name}.{kind}") for kind in ("jsonl", "txt"))
        self.log = log
        words = [sys.executable, "-m", MODULE, stage.name, str(self.findings), f"{seconds:.1f}", settings.text()]
        with open(self.printed, "wb") as output:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs. Ends it at its limit, and collects what it left once it has ended."""
        if self.process is None:
            return False
        late = time.monotonic() - self.began > self.seconds
        if self.process.poll() is None and not late:
            return True
        code = self.kill()
        self._collect(code, late)
        return False

    def kill(self) -> int:
        """End the process, and what it started and did not end; its status."""
        if self.process is None:
            return 0
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code, self.process = self.process.wait(), None
        return code

    def _collect(self, code: int, late: bool) -> None:
        self.result.seconds = time.monotonic() - self.began
        printed = self.printed.read_text(encoding="utf-8", errors="replace")
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"== {self.stage.name}\n{printed}\n")
        with suppress(OSError):
            self.result.findings = read_findings(self.findings)
        for path in (self.printed, self.findings):
            path.unlink(missing_ok=True)
        errors = [one["error"] for one in self.result.findings if one.get("error")]
        if late:
            self.result.status, self.result.error = LATE, f"ended after {self.seconds:.0f} s"
        elif code != 0 or errors:
            last = (printed.strip().splitlines() or [f"ended with status {code}"])[-1]
            self.result.status, self.result.error = FAILED, str(errors[0] if errors else last)[:300]


def read_findings(path: Path) -> list[dict[str, Any]]:
    """The lines of a stage's file, numbers that are not finite as None; a last line that was cut off is dropped."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            found.append(json.loads(line, parse_constant=lambda _: None))
    return found
