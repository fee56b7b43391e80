"""Cells side by side in local processes of one thread each. A cell that fails or dies does not stop the rest."""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from backbench.benchmarks.data.processes import environment, keep_bytecode, plain_workers
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import LAST, Emit, Event, Job
from backbench.benchmarks.run.executors.queue import Queue
from backbench.benchmarks.run.executors.worker import stop_requests, work
from backbench.claims import Claim, beating


def _worker(cell: Cell, job: Job, claim: Claim, pipe: Connection) -> None:
    """One cell in its own process. A signal, or the parent's death, asks it to stop at the next update."""
    keep_bytecode()
    asked = stop_requests()

    def send(event: Event) -> None:
        try:
            pipe.send(event)
        except OSError:  # the parent is gone
            asked.set()

    work(cell, job, claim, send, asked)


@dataclass(frozen=True)
class _Running:
    """A cell's process, what holds its claim, and the GPU that it sees; empty for all."""

    cell: Cell
    process: Any
    holding: ExitStack
    gpu: str


class LocalExecutor:
    """At most ``jobs`` processes at a time.

    ``gpus`` are names for CUDA_VISIBLE_DEVICES. A process sees the one with the fewest others; without names it sees
    what this process sees.
    """

    def __init__(self, jobs: int, gpus: Sequence[str] = ()) -> None:
        self.jobs, self.gpus = jobs, tuple(gpus)
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[Connection, _Running] = {}
        self._stopping = False
        self._told: set[int] = set()  # process ids that were asked to stop

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """See ``Executor``."""
        queue = Queue(cells, job, emit)
        while queue or self._running:
            while len(self._running) < self.jobs and not self._stopping:
                if (given := queue.next(idle=not self._running)) is None:
                    break
                self._start(*given, job, emit)
            if self._stopping:
                queue.clear()
                self._ask_to_stop()
            if not self._running:
                time.sleep(0.2 if queue else 0)
            for pipe in wait(list(self._running), timeout=0.2):
                assert isinstance(pipe, Connection)
                self._receive(pipe, queue, emit)

    def stop(self) -> None:
        """See ``Executor``. The loop of ``run`` notices within 0.2 seconds."""
        self._stopping = True

    def _start(self, cell: Cell, claim: Claim, job: Job, emit: Emit) -> None:
        mine, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_worker, args=(cell, job, claim, theirs))
        busy = [one.gpu for one in self._running.values()]
        gpu = min(self.gpus, key=busy.count, default="")
        with plain_workers(), environment(**({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})):
            process.start()
        theirs.close()
        holding = ExitStack()
        holding.enter_context(beating(claim))
        self._running[mine] = _Running(cell, process, holding, gpu)
        emit(Event(cell, "started"))

    def _ask_to_stop(self) -> None:
        for process in (one.process for one in self._running.values()):
            if process.pid is not None and process.pid not in self._told and process.is_alive():
                self._told.add(process.pid)
                os.kill(process.pid, signal.SIGTERM)

    def _receive(self, pipe: Connection, queue: Queue, emit: Emit) -> None:
        one = self._running[pipe]
        try:
            event: Event | None = pipe.recv()
        except (EOFError, OSError):
            event = None
        if event is not None and event.kind not in (*LAST, "held"):
            emit(replace(event, cell=one.cell))
            return
        del self._running[pipe]
        one.process.join()
        pipe.close()
        one.holding.close()
        if event is not None and event.kind == "held":
            queue.put_back(one.cell)
        died = f"the process died with {_death(one.process.exitcode)}; run the same command again to resume"
        emit(Event(one.cell, "error", message=died) if event is None else replace(event, cell=one.cell))


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit status {exitcode}"
