"""The grid: cells side by side in processes of one thread each. A cell that fails or dies does not stop the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record

Event = dict[str, Any]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Outcome:
    """What became of an invocation's cells, by key."""

    done: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)  # a cell without a record, and why
    stopped: int = 0  # the signal that ended the run early, else 0


def finished(cell: Cell, results: Path) -> Record | None:
    """The valid record of a cell that is done; None when it has none or has failed.

    Raises:
        RecordError: there is a file, and it is not a record.
    """
    path = cell.record_path(results)
    if not path.exists():
        return None
    record = load_record(path)
    return record if record.status == "done" else None


def _worker(cell: Cell, results: Path, device: str, command: Sequence[str], pipe: Connection) -> None:
    """One cell in a process of its own. A signal, or the parent's death, asks it to stop at the next update."""
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.set()

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except (BrokenPipeError, OSError):  # the parent is gone
            asked.set()

    try:
        import torch

        from backbench.backbones.kernels import SlowKernels
        from backbench.benchmarks.run.cell import run_cell
        from backbench.benchmarks.run.evaluate import Interrupted

        torch.set_num_threads(1)
        warnings.simplefilter("ignore", SlowKernels)  # `bench run` has said so, once for all cells
        try:
            record = run_cell(cell, results, device, send, asked.is_set, command)
            send({"kind": record.status})
        except Interrupted:
            send({"kind": "stopped"})
    except (UserError, RecordError) as error:
        send({"kind": "error", "message": str(error)})
    except OSError as error:
        send({"kind": "error", "message": f"{error.strerror or error}: {error.filename or results}"})
    except BaseException as error:
        send({"kind": "error", "message": f"{type(error).__name__}: {error}"})
        raise


@contextmanager
def _stop_flag() -> Any:
    """A list that gets the number of the first stop signal; handlers are put back afterwards."""
    got: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield got
        return
    before = {n: signal.signal(n, lambda number, frame: got.append(number)) for n in STOP_SIGNALS}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_cells(
    cells: Sequence[Cell],
    results: Path,
    jobs: int,
    device: str = "auto",
    report: Callable[[Cell, Event], None] = lambda cell, event: None,
    command: Sequence[str] | None = None,
) -> Outcome:
    """Run the cells that are not done yet, at most ``jobs`` at a time.

    ``report`` gets every cell's events: ``started``, ``train`` (step, loss, lr, tokens_per_s), ``evaluating``, ``eval``
    (step, return), and the last one of each, ``done``, ``failed``, ``stopped`` or ``error`` (message).
    On SIGINT or SIGTERM the running cells write a checkpoint, nothing more is started, and ``stopped`` is set.
    """
    from backbench.benchmarks.data.sources import one_thread

    outcome = Outcome()
    words = list(command if command is not None else ["bench", *sys.argv[1:]])
    waiting = list(cells)
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[Cell, Any]] = {}
    told = False

    def close(pipe: Connection, last: Event | None) -> None:
        cell, process = running.pop(pipe)
        process.join()
        pipe.close()
        event = last or {
            "kind": "error",
            "message": f"the process died with {_death(process.exitcode)}; the same command takes it up again",
        }
        if event["kind"] in ("done", "failed"):
            record = load_record(cell.record_path(results))
            (outcome.done if record.status == "done" else outcome.failed).append(record)
        elif event["kind"] == "error":
            outcome.errors[cell.key] = event["message"]
        report(cell, event)

    with _stop_flag() as got:
        while waiting or running:
            while waiting and len(running) < jobs and not got:
                cell = waiting.pop(0)
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_worker, args=(cell, results, device, words, theirs))
                with one_thread():
                    process.start()
                theirs.close()
                running[mine] = (cell, process)
                report(cell, {"kind": "started"})
            if got and not told:
                told = True
                waiting.clear()
                for _, process in running.values():
                    if process.pid is not None and process.is_alive():
                        os.kill(process.pid, signal.SIGTERM)
            for pipe in wait(list(running), timeout=0.2):
                assert isinstance(pipe, Connection)
                try:
                    event = pipe.recv()
                except (EOFError, OSError):
                    close(pipe, None)
                    continue
                if event["kind"] in ("done", "failed", "stopped", "error"):
                    close(pipe, event)
                else:
                    report(running[pipe][0], event)
        outcome.stopped = got[0] if got else 0
    return outcome


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit status {exitcode}"
