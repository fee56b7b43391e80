"""Shared by frame_loading.py and vector_loading.py: fresh processes, memory, goals and tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backbench.benchmarks.run import provenance
from backbench.benchmarks.speed.parts.training import resident
from backbench.errors import UserError, require

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Goal:
    """A limit of a measured value."""

    limit: float
    kind: str  # at most, below or at least

    def __str__(self) -> str:
        return f"{self.kind} {self.limit:g}"

    def met(self, value: float) -> bool:
        """Whether ``value`` is within the limit."""
        return {"at most": value <= self.limit, "below": value < self.limit, "at least": value >= self.limit}[self.kind]


def limits(goals: Mapping[str, Goal]) -> dict[str, float]:
    """The goals as JSON holds them."""
    return {name: goal.limit for name, goal in goals.items()}


def memory_mb() -> dict[str, float]:
    """Resident memory of this process, now and at its peak, in 10^6 bytes."""
    return {"now": resident("VmRSS"), "peak": resident("VmHWM")}


def fresh_process(script: str, measured: str, sizes: Mapping[str, object]) -> Any:
    """What a fresh process of ``script`` prints as JSON, measuring ``measured``. UserError: it failed."""
    words = [str(word) for name, value in sizes.items() for word in (f"--{name}", value)]
    command = [sys.executable, script, "--measured", measured, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or "the process ended").splitlines()[-1]
        raise UserError(f"{measured} could not be measured: {said}")
    return json.loads(done.stdout.splitlines()[-1])


def require_sizes(sizes: Mapping[str, int]) -> None:
    """UserError: an option below 1."""
    for name, value in sizes.items():
        require(value >= 1, f"--{name} {value}: give at least 1")


def machine() -> dict[str, Any]:
    """Threads, packages and hardware of this run, as JSON holds them."""
    hardware = provenance.hardware(None).model_dump()
    return {"threads": torch.get_num_threads(), "packages": provenance.packages(), "hardware": hardware}


def show(heading: str, rows: Iterable[tuple[str, float, str, Goal | None]]) -> None:
    """Print name, value, unit and goal of each row."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "measured", "goal", box=None, pad_edge=False)
    for name, value, unit, goal in rows:
        said = "" if goal is None else f"{goal}: {'met' if goal.met(value) else 'missed'}"
        table.add_row(name, f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}", said)
    Console().print(heading, table, sep="\n")


def add_options(parser: ArgumentParser, batch: int, context: int) -> None:
    """Options that both commands have."""
    parser.add_argument("--batch", type=int, default=batch, help="windows in a batch")
    parser.add_argument("--context", type=int, default=context, help="K, steps in a window")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--store", type=Path, help="keep the set in this folder; default: a temporary one")
    parser.add_argument("--measured", help=SUPPRESS)
    parser.add_argument("--name", help=SUPPRESS)


def run(prefix: str, store: Path | None, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Measure with a store in ``store``, or in a temporary folder. None after a printed error."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["MINARI_DATASETS_PATH"] = str(store or temporary)
            return measure()
    except (UserError, OSError) as error:
        print(f"{prefix}: {' '.join(str(error).split())}", file=sys.stderr)
        return None
