"""How cells are executed: an executor runs cells somewhere and emits events. A cell's last event has its record."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backbench.benchmarks.plan.settings import Cell
from backbench.leaderboard.record.schema import Record

LAST = ("done", "failed", "stopped", "error", "taken")


@dataclass(frozen=True)
class Event:
    """Something that happened to a cell.

    Attributes:
        cell: the cell.
        kind: ``started``, ``train``, ``evaluating``, ``eval``, and one of ``LAST`` at the end. ``held`` while another
            process runs the cell, and ``taken`` at the end if that one recorded it.
        step: optimiser updates so far, for ``train``, ``evaluating`` and ``eval``.
        values: numbers: loss, lr, tokens_per_s (``train``), return (``eval``).
        message: why there is no record, for ``error``; who runs the cell, for ``held``.
        record: the cell's record, for ``done``, ``failed`` and ``taken``.
    """

    cell: Cell
    kind: str
    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    record: Record | None = None


@dataclass(frozen=True)
class Job:
    """What all cells of a run share: folder of results, device, and the command line that records name.

    ``backbones``: name to ``"module:Class"`` of those that were registered in this process, for others.
    """

    results: Path
    device: str = "auto"
    command: tuple[str, ...] = ()
    backbones: Mapping[str, str] = field(default_factory=dict)


def order(cell: Cell, job: Job) -> str:
    """The JSON text that ``worker.read_order`` reads: a cell, and what its record and process must know of the run."""
    from backbench.benchmarks.data import store

    told = {"cell": cell.resolved(), "command": list(job.command), "backbones": dict(job.backbones)}
    digest = store.sidecar(cell.task.data_id).get("digest", "") if store.exists(cell.task.data_id) else ""
    return json.dumps(told | {"data": digest})


Emit = Callable[[Event], None]


class Executor(Protocol):
    """A place where cells run: this process, local processes, a cluster."""

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """Run the cells. For each one, emit ``started``, its progress, and one last event."""

    def stop(self) -> None:
        """Ask the running cells to write a checkpoint and end, and start no other. A signal handler may call this."""
