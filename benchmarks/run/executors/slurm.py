"""Cells as array jobs of Slurm. They need no driver: this one submits them, follows the folder of results, and may die.

::

    slurm/NAME/keys      an array called NAME: the key of each of its cells, as JSON
    slurm/NAME/7.cell    the order of its cell 7, see ``worker``
    slurm/NAME/7.log     what that cell's process says: its events, and errors

A cell is submitted if it has no record, nobody holds it, and no array in Slurm's queue has it. So the same command
after a crash finds its jobs by their names, and no gap lies between submitting a job and noting its number.
"""

import json
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbench import claims, reading, storage
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results
from backbench.benchmarks.run.executors import Emit, Event, Job, sbatch
from backbench.benchmarks.run.executors.sbatch import SlurmError
from backbench.benchmarks.run.executors.worker import order
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record

FOLDER, KEYS = "slurm", "keys"
PROGRESS = ("started", "train", "evaluating", "eval", "held")
LOOK_AGAIN = 5.0  # seconds between two looks at the queue and the logs
SECOND_THOUGHT = 5.0  # seconds in which a second Ctrl-C cancels the jobs
MOST_READ = reading.MB  # bytes of a log at a time
TAKES_OVER = claims.LEASE + 3 * claims.BEAT  # seconds that a job waits for the claim of one whose machine failed


@dataclass
class _Task:
    """A cell in an array."""

    cell: Cell
    folder: Path  # of the array
    index: int
    job: str  # id of the array
    read: int = 0  # bytes of its log
    last: str = ""  # kind of its last event
    message: str = ""
    missed: int = 0  # how often in a row the queue no longer had it

    @property
    def log(self) -> Path:
        return self.folder / f"{self.index}.log"


class SlurmExecutor:
    """At most ``jobs`` cells at a time, 0 for as many as Slurm allows, with ``options`` of sbatch. ``say`` gets lines
    for the user."""

    def __init__(self, jobs: int, options: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.jobs, self.options, self._say = jobs, options, say
        self._free: dict[str, Cell] = {}  # by key: neither in an array nor ended
        self._tasks: dict[str, _Task] = {}  # by key: in an array
        self._said: set[str] = set()
        self._asked = 0  # stop signals

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """See ``Executor``. Raises ``SlurmError`` if Slurm refuses and no cell is in its queue."""
        self._job, self._emit = job, emit
        self._free = {cell.key: cell for cell in cells}
        self._attach()
        while self._free or self._tasks:
            self._submit([cell for cell in list(self._free.values()) if self._startable(cell)])
            if self._leaving():
                return
            there = self._queue()
            for task in list(self._tasks.values()):
                self._hear(task)
                self._judge(task, there)

    def stop(self) -> None:
        """Leave the jobs alone and end; asked twice within ``SECOND_THOUGHT``, cancel them too."""
        self._asked += 1

    def _attach(self) -> None:
        """Find the cells that an earlier run submitted, and that Slurm still has."""
        known: dict[str, list[str]] = {}
        for (name, index), (job, state) in sbatch.queue().items():
            folder = self._job.results.absolute() / FOLDER / name
            if state in (*sbatch.ENDED, "COMPLETING") or not folder.is_dir():
                continue
            if name not in known:
                known[name] = [str(key) for key in reading.read_json(folder / KEYS)]
            key = known[name][index] if index < len(known[name]) else ""
            if (cell := self._free.pop(key, None)) is not None:
                self._tasks[cell.key] = _Task(cell, folder, index, job)
        if self._tasks:
            self._say(f"{len(self._tasks)} cells are in Slurm's queue from before: job {self._numbers()}")

    def _startable(self, cell: Cell) -> bool:
        """Whether a cell waits for nobody. One with a record ends here."""
        try:
            record = results.finished(cell, self._job.results)
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

    def _submit(self, cells: Sequence[Cell]) -> None:
        before = ""
        for start in range(0, len(cells), sbatch.ARRAY):
            some = cells[start : start + sbatch.ARRAY]
            try:
                before = self._submit_array(some, before)
            except SlurmError as error:
                if not self._tasks:
                    raise
                self._say_once(f"{error}; {len(cells) - start} cells wait, and are submitted later")
                return

    def _submit_array(self, cells: Sequence[Cell], before: str) -> str:
        """Submit cells, after the array ``before`` if both share a limit; the job id."""
        job, folder = self._job, self._job.results.absolute() / FOLDER / f"backbench-{uuid.uuid4().hex[:10]}"
        folder.mkdir(parents=True)
        (folder / KEYS).write_text(json.dumps([cell.key for cell in cells]), encoding="utf-8")
        for index, cell in enumerate(cells):
            (folder / f"{index}.cell").write_text(order(cell, job), encoding="utf-8")
        words = ["--results", str(job.results.absolute()), "--device", job.device, "--patience", str(TAKES_OVER)]
        python = shlex.join([sys.executable, "-m", "backbench.run_cell"])
        command = f'exec {python} {shlex.quote(str(folder))}/"$SLURM_ARRAY_TASK_ID".cell {shlex.join(words)}'
        limited = {"dependency": f"afterany:{before}"} if before and self.jobs else {}
        try:
            number = sbatch.submit(folder, len(cells), self.jobs, command, {**self.options, **limited})
        except SlurmError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for index, cell in enumerate(cells):
            self._tasks[cell.key] = _Task(self._free.pop(cell.key), folder, index, number)
        self._say(f"{len(cells)} cells submitted to Slurm as job {number}; their logs are in {folder}")
        return number

    def _queue(self) -> dict[tuple[str, int], tuple[str, str]] | None:
        """Slurm's queue; None if it does not answer, which stops no job."""
        try:
            return sbatch.queue()
        except SlurmError as error:
            self._say_once(f"{error}; jobs go on, and so does following their logs")
            return None

    def _hear(self, task: _Task) -> None:
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

    def _judge(self, task: _Task, there: Mapping[tuple[str, int], tuple[str, str]] | None) -> None:
        """Whether a cell has ended, by its last event or by the queue."""
        record = self._record(task) if task.last in ("done", "failed", "taken") else None
        if record is not None:
            self._end(Event(task.cell, task.last, record=record))
        elif task.last == "error":
            self._end(Event(task.cell, "error", message=task.message))
        elif there is not None:
            state = there.get((task.folder.name, task.index), ("", ""))[1]
            task.missed = task.missed + 1 if state in ("", *sbatch.ENDED) else 0
            if task.missed > 1:  # of a job that is being queued again, one look may see the end
                self._lost(task, state)

    def _lost(self, task: _Task, state: str) -> None:
        """A job is over, and its cell did not say how it ended."""
        cell = self._tasks.pop(task.cell.key).cell
        self._free[cell.key] = cell
        if task.last != "held" and self._startable(cell):
            self._end(Event(cell, "error", message=f"its job {task.job}_{task.index} {_over(task, state)}"))

    def _record(self, task: _Task) -> Record | None:
        """The record that a job says there is; None if this machine does not see it yet."""
        try:
            if task.last != "failed":
                return results.finished(task.cell, self._job.results)
            path = results.failure_path(task.cell, self._job.results)
            return load_record(path) if path.exists() else None
        except (UserError, RecordError) as error:
            task.last, task.message = "error", str(error)
            return None

    def _end(self, event: Event) -> None:
        self._tasks.pop(event.cell.key, None)
        self._free.pop(event.cell.key, None)
        self._emit(event)

    def _leaving(self) -> bool:
        """Wait for the next look; whether a stop signal came meanwhile."""
        if not _wait(LOOK_AGAIN if self._tasks or self._free else 0, lambda: self._asked > 0):
            return False
        self._say(
            f"jobs {self._numbers()} go on without this command, which finds them again, as bench status does; "
            f"Ctrl-C within {SECOND_THOUGHT:.0f} s cancels them"
        )
        if _wait(SECOND_THOUGHT, lambda: self._asked > 1):
            sbatch.cancel(sorted({task.job for task in self._tasks.values()}))
            self._say("cancelled; cells that ran write a checkpoint first")
        return True

    def _numbers(self) -> str:
        return ", ".join(sorted({task.job for task in self._tasks.values()}))

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


def _over(task: _Task, state: str) -> str:
    """How a job without a record ended, and what to do."""
    again = "the same command resumes from its checkpoint"
    if state == "TIMEOUT":
        return f"reached its time limit; {again}, with a longer --time if there is none yet"
    if state == "OUT_OF_MEMORY":
        return "needed more memory than it had; give a larger --mem"
    if state == "CANCELLED":
        return f"was cancelled; {again}"
    return f"ended without a record{f' ({state})' if state else ''}; {task.log} may say why; {again}"


def _wait(seconds: float, until: Callable[[], bool]) -> bool:
    """Wait until something is true, and whether it is."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        time.sleep(0.1)
    return until()
