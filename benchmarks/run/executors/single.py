"""``python -m backbench.run_cell``, see there: a process that claims one cell, runs it, and says how it ended."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from backbench import storage, terminal
from backbench.benchmarks.data.processes import ONE_THREAD, keep_bytecode
from backbench.errors import UserError
from backbench.text import plain

STATUS = {"done": 0, "taken": 0, "failed": 1, "error": 2, "held": 75, "stopped": 143}
LOOK_AGAIN = 0.2  # seconds


def main(words: Sequence[str]) -> int:
    """Run the cell that ``words`` name; the exit status."""
    keep_bytecode()
    os.environ |= ONE_THREAD  # before NumPy and torch are imported
    os.environ.setdefault("MUJOCO_GL", "disabled")
    try:
        return run(_parsed(words))
    except UserError as error:
        terminal.line(f"run_cell: {error}", error=True)
        return STATUS["error"]


def run(told: argparse.Namespace) -> int:
    """Run a cell once its claim is free; the exit status. UserError: the file, its settings, or data
    that can neither be made nor fetched here."""
    from backbench.benchmarks.data import sources
    from backbench.benchmarks.run.executors import Event
    from backbench.benchmarks.run.executors.queue import Queue
    from backbench.benchmarks.run.executors.worker import check_same_data, read_order, stop_requests, work
    from backbench.claims import beating

    cell, job, digest = read_order(told.cell, storage.pull(told.results), told.device)
    sources.bring(cell.data.source, cell.task.data_id, lambda line: terminal.line(plain(line), error=True))
    check_same_data(cell.task.data_id, digest)
    asked, last = stop_requests(), ["held"]

    def send(event: Event) -> None:
        last.append(event.kind)
        said = {"kind": event.kind, "step": event.step, "values": dict(event.values), "message": event.message}
        terminal.line(json.dumps({"key": cell.key, **{name: one for name, one in said.items() if one}}))
        if event.kind == "error":
            terminal.line(f"run_cell: {cell.key}: {plain(event.message)}", error=True)

    queue, until = Queue([cell], job, send), time.monotonic() + told.patience
    while queue:
        if asked.is_set():
            send(Event(cell, "stopped"))
            break
        if (given := queue.next(idle=True)) is not None:
            send(Event(cell, "started"))
            try:
                with beating(given[1]):
                    work(cell, job, given[1], send, asked)
            except Exception:  # after its event: a bug, whose lines are for the log
                sys.excepthook(*sys.exc_info())
        elif queue and time.monotonic() >= until:
            break
        else:
            time.sleep(LOOK_AGAIN if queue else 0)
    return STATUS[last[-1]]


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m backbench.run_cell", description="Train, evaluate and record one cell.")
    parser.add_argument("cell", type=Path, help="JSON file: the settings in a record's provenance.config")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of results, or s3://bucket/prefix"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for another process's claim")
    return parser.parse_args(words)
