"""``python -m backbench.run_cell``, see there: a process that claims one cell, runs it, and says how it ended."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbench import storage, terminal
from backbench.benchmarks.data.processes import ONE_THREAD, keep_bytecode
from backbench.errors import UserError, require
from backbench.text import plain

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.executors import Job

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
    from backbench.benchmarks.run.executors.worker import check_same_data, join, read_order, stop_requests, work
    from backbench.claims import beating

    cell, job, digest = read_order(told.cell, storage.pull(told.results), told.device)
    sources.bring(cell.data.source, cell.task.data_id, lambda line: terminal.line(plain(line), error=True))
    check_same_data(cell.task.data_id, digest)
    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":  # rank 0 has the cell
        join(job)
        return assist(cell, job)
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


def assist(cell: Cell, job: Job) -> int:
    """Train with rank 0 until it says that training is over; the exit status."""
    import torch

    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.processes import steady
    from backbench.benchmarks.plan.assemble import make_agent, seen
    from backbench.benchmarks.run.cell import choose_device, make_sampler
    from backbench.benchmarks.run.executors.team import OVER, rank, team
    from backbench.benchmarks.run.train import learning_rate, loss_of, make_optimizer, set_learning_rate

    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)  # rank 0 writes a checkpoint and ends this
    kind = choose_device(job.device, [cell]).type
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)
    with steady(torch.get_num_threads(), kind), team(cell, job, device) as made:
        require(made is not None, f"RANK={rank()}, and the cell has train.processes=1; start it without torchrun")
        assert made is not None
        data = seen(cell, store.read(cell.task.data_id))
        agent = make_agent(cell, data).to(device)
        sampler, _ = make_sampler(cell, data, device)
        optimizer = make_optimizer(agent, cell.train, device)
        agent.train()
        update = made.updater(agent, optimizer, loss_of(agent, cell.train))
        while (number := made.next_update()) != OVER:
            set_learning_rate(optimizer, learning_rate(number, cell.train))
            update(sampler.batch(number), number)
    return 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m backbench.run_cell", description="Train, evaluate and record one cell.")
    parser.add_argument("cell", type=Path, help="JSON file: the settings in a record's provenance.config")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of results, or s3://bucket/prefix"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--patience", type=float, default=0, help="seconds to wait for another process's claim")
    return parser.parse_args(words)
