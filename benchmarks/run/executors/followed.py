"""Cells that a cluster runs: each process writes its events to a log in a folder that all machines share.

::

    ENGINE/NAME/7.cell    the order of cell 7 of some that were started together, see ``worker``
    ENGINE/NAME/7.log     what that cell's process says: its events, and errors
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backbench import claims, reading, storage
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results
from backbench.benchmarks.run.executors import Emit, Event, Job, order
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record

PROGRESS = ("started", "train", "evaluating", "eval", "held")
MOST_READ = reading.MB  # bytes of a log at a time
TAKES_OVER = claims.LEASE + 3 * claims.BEAT  # seconds that a process waits for the claim of one whose machine failed


@dataclass
class Task:
    """A cell that the cluster has."""

    cell: Cell
    folder: Path
    index: int
    job: Any  # what the engine calls it
    read: int = 0  # bytes of its log
    last: str = ""  # kind of its last event
    message: str = ""
    missed: int = 0  # how many looks in a row found it ended

    @property
    def log(self) -> Path:
        return self.folder / f"{self.index}.log"


class FollowedExecutor:
    """At most ``jobs`` cells at a time, 0 for as many as the engine allows, with its ``options``. ``say`` gets lines
    for the user. A subclass starts cells (``_submit``), looks (``_look``) and judges by what it saw (``_over``)."""

    def __init__(self, jobs: int, options: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.jobs, self.options, self._say = jobs, options, say
        self._free: dict[str, Cell] = {}  # by key: neither started nor ended
        self._tasks: dict[str, Task] = {}  # by key: started
        self._said: set[str] = set()
        self._asked = 0  # stop signals

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """See ``Executor``. Raises ``UserError`` if the engine refuses, and no cell is started."""
        self._job, self._emit = job, emit
        self._free = {cell.key: cell for cell in cells}
        self._attach()
        while self._free or self._tasks:
            self._submit([cell for cell in list(self._free.values()) if self._startable(cell)])
            if self._leaving():
                return
            there = self._look()
            for task in list(self._tasks.values()):
                self._hear(task)
                self._judge(task, there)

    def stop(self) -> None:
        """See ``Executor``; ``_leaving`` says what it does."""
        self._asked += 1

    def _attach(self) -> None:
        """Find the cells that an earlier run started, if the engine still has them."""

    def _submit(self, cells: Sequence[Cell]) -> None:
        """Start cells: each goes from ``_free`` to ``_tasks``."""
        raise NotImplementedError(f"{type(self).__name__} must define _submit")  # abstract: each engine has its own

    def _look(self) -> Any:
        """What the engine has; None if it does not answer, which ends no cell."""
        raise NotImplementedError(f"{type(self).__name__} must define _look")  # abstract: each engine has its own

    def _over(self, task: Task, there: Any) -> str:
        """Why a cell ended without saying so, and what to do; empty if it goes on."""
        raise NotImplementedError(f"{type(self).__name__} must define _over")  # abstract: each engine has its own

    def _leaving(self) -> bool:
        """Wait for the next look; whether a stop signal ended the run meanwhile."""
        raise NotImplementedError(f"{type(self).__name__} must define _leaving")  # abstract: each engine has its own

    def _write(self, folder: Path, index: int, cell: Cell) -> None:
        (folder / f"{index}.cell").write_text(order(cell, self._job), encoding="utf-8")

    def _words(self) -> list[str]:
        """What ``run_cell`` is told of every cell."""
        job = self._job
        return ["--results", storage.address(job.results), "--device", job.device, "--patience", str(TAKES_OVER)]

    def _startable(self, cell: Cell) -> bool:
        """Whether a cell waits for nobody. One with a record ends here."""
        try:
            record = self._finished(cell)
        except (UserError, RecordError) as error:
            self._end(Event(cell, "error", message=str(error)))
            return False
        if record is not None:
            self._end(Event(cell, "taken", record=record))
            return False
        who = claims.holder_of(cell.checkpoint_folder(self._job.results), storage.observer(self._job.results))
        if who and cell.key not in self._said:
            self._said.add(cell.key)
            self._emit(Event(cell, "held", message=f"{who} runs it; waiting for the record"))
        return not who

    def _hear(self, task: Task) -> None:
        """Emit what a cell's log has that is new."""
        try:
            with reading.opened(task.log, 1 << 40) as file:
                file.seek(task.read)
                new = file.read(MOST_READ)
        except (reading.ReadingError, OSError):  # not started yet
            return
        complete = new[: new.rfind(b"\n") + 1] or (new if len(new) == MOST_READ else b"")
        task.read += len(complete)
        for line in complete.decode("utf-8", "replace").splitlines():
            if (event := _event(task.cell, line)) is not None:
                task.last, task.message = event.kind, event.message
                if event.kind in PROGRESS:
                    self._emit(event)

    def _judge(self, task: Task, there: Any) -> None:
        """Whether a cell has ended, by its last event or by what the engine has."""
        record = self._record(task) if task.last in ("done", "failed", "taken") else None
        if record is not None:
            self._end(Event(task.cell, task.last, record=record))
        elif task.last == "error":
            self._end(Event(task.cell, "error", message=task.message))
        elif there is not None and (why := self._over(task, there)):
            cell = self._tasks.pop(task.cell.key).cell
            self._free[cell.key] = cell
            if task.last != "held" and self._startable(cell):
                self._end(Event(cell, "error", message=why))

    def _record(self, task: Task) -> Record | None:
        """The record that a job says there is; None if this machine does not see it yet."""
        try:
            if task.last != "failed":
                return self._finished(task.cell)
            path = results.failure_path(task.cell, self._job.results)
            storage.disk(self._job.results).fetch(path)
            return load_record(path) if path.exists() else None
        except (UserError, RecordError) as error:
            task.last, task.message = "error", str(error)
            return None

    def _finished(self, cell: Cell) -> Record | None:
        """The record of a cell, which another machine may have made on a server of objects."""
        storage.disk(self._job.results).fetch(cell.record_path(self._job.results))
        return results.finished(cell, self._job.results)

    def _end(self, event: Event) -> None:
        self._tasks.pop(event.cell.key, None)
        self._free.pop(event.cell.key, None)
        self._emit(event)

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)


def _event(cell: Cell, line: str) -> Event | None:
    """The event in a line of a log; None for what libraries and Slurm write there."""
    try:
        said = reading.parse_json(line, "a log") if line.startswith("{") else None
        if not isinstance(said, dict) or said.get("key") != cell.key:
            return None
        values = {str(name): float(value) for name, value in said.get("values", {}).items()}
        return Event(cell, str(said["kind"]), int(said.get("step", 0)), values, str(said.get("message", "")))
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None


def wait(seconds: float, until: Callable[[], bool]) -> bool:
    """Wait until something is true, and whether it is."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.1)
    return until()
