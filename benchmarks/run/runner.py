"""From cells to records: prepare data and folders, run what is left on an executor, and tell sinks what happens.

``bench run`` and ``bench reproduce`` use this runner. What to run comes from the plan, where it runs is the executor's
choice, and who hears about it are the sinks.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from backbench import storage
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run.executors import Event, Executor, Job
from backbench.errors import UserError
from backbench.files import temporary_name
from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.record.schema import Record


class Sink(Protocol):
    """Hears what happens: a terminal, a log, a tracking server. A sink never fails a cell."""

    def event(self, event: Event) -> None:
        """Take note of an event."""


@dataclass
class Outcome:
    """What became of the cells of a run."""

    done: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    """Key of a cell without a record, and why."""
    stopped: int = 0
    """The signal that ended the run early, else 0."""

    def add(self, event: Event) -> None:
        """Count the last event of a cell; others change nothing."""
        if event.record is not None:
            (self.done if event.record.status == "done" else self.failed).append(event.record)
        elif event.kind == "error":
            self.errors[event.cell.key] = event.message

    @property
    def status(self) -> int:
        """Exit status: 0 all done, 1 a cell failed, 128 + signal when the run was stopped."""
        return 128 + self.stopped if self.stopped else int(bool(self.failed or self.errors))


@dataclass(frozen=True)
class Voice:
    """How preparing speaks."""

    say: Callable[[str], None]
    """Prints one line."""
    made: Callable[[Sequence[str]], Callable[[str], None]]
    """From the names of all data sets to generate, a function that hears of each one when it is ready."""
    download: Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
    """A progress bar for one download; takes bytes done and bytes in all."""


def remaining(cells: Sequence[Cell], results: Path) -> list[Cell]:
    """The cells that are not done. UserError: a record is broken, or was made on other data than the store has now."""
    try:
        return [cell for cell in cells if not _same_data(files.finished(cell, results))]
    except RecordError as error:
        raise UserError(str(error)) from error


def _same_data(done: Record | None) -> bool:
    """Whether a cell is done; UserError if its data differ from those in the store."""
    from backbench.benchmarks.data import store

    if done is None or done.identity.data is None:
        return done is not None
    used, name = done.identity.data.sha256, done.identity.data.id
    here = store.digest(name) if store.exists(name) else None
    if here is not None and here != used:
        raise UserError(
            f"{done.key} was run on other data: {name} had the hash {used[:8]}, and in the store it has {here[:8]}; "
            "choose another folder with --out, or move the record away"
        )
    return True


def prepare(cells: Sequence[Cell], results: Path, voice: Voice, suite: str = "") -> None:
    """Everything that can go wrong before training goes wrong here, before anything is written.

    Builds each model once without memory, plays each unusual environment for one step, fetches and generates data
    sets, and creates the folder of results.

    ``suite`` is the one that the cells were planned from, empty if they come from records. Raises ``UserError`` for a
    model, an environment, data or a folder that cannot be used.
    """
    from backbench.benchmarks.data import sources
    from backbench.benchmarks.plan.assemble import still_columns
    from backbench.benchmarks.plan.compose import check_models
    from backbench.benchmarks.run import machine

    check_models(cells)
    due = sources.plan((cell.data.source, cell.task.data_id) for cell in cells)
    _check_environments(cells, suite)
    _check_writable(results)
    if due.fetch:
        sources.fetch(due.fetch, voice.say, voice.download)
    there = [cell for cell in cells if cell.task.data_id not in due.make]
    _check_data(there)
    still = still_columns(there)
    _create(results)
    if due.make:
        sources.make_all(due.make, machine.cores(), voice.made(due.make))
    for line in (*still, *still_columns(cell for cell in cells if cell.task.data_id in due.make)):
        voice.say(line)


def _check_environments(cells: Sequence[Cell], suite: str) -> None:
    """Make and play environments that an extra package or the user brings; Gymnasium's own robots need no test."""
    from backbench.benchmarks.plan import suites

    table = suites.table(suite) if suite else None
    requires, remedy = (table.requires, table.remedy) if table else ("", "")
    for cell in {repr(cell.environment): cell for cell in cells}.values():
        if requires or cell.task.suite_tasks or table is None:
            cell.kind.probe(cell.environment, requires, remedy)
            if cell.task.observe is not None:
                full = cell.kind.sizes(replace(cell.environment, observe=None)).state_shape[0]
                cell.task.check_observed(full)


def _check_data(cells: Sequence[Cell]) -> None:
    """Read the data sets of vectors and compare them with their environments. For pixels, which take long, cells do."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.run.cell import check_data

    for cell in {(cell.task.data_id, repr(cell.environment), cell.eval.temperature): cell for cell in cells}.values():
        if not cell.kind.frames:
            check_data(cell, store.read(cell.task.data_id))


def _check_writable(folder: Path) -> None:
    """Look before a long download, and leave nothing behind."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "Permission denied" if there.is_dir() else f"{there.name} is no folder"
        raise UserError(f"cannot write to {folder}: {reason}; choose another folder with --out")


def _create(folder: Path) -> None:
    try:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        probe = folder / temporary_name("writable")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
    storage.disk(folder).probe()


def run(cells: Sequence[Cell], job: Job, executor: Executor, sinks: Sequence[Sink] = ()) -> Outcome:
    """Run prepared cells on an executor. Other processes may run cells of the same folder: each cell runs once.

    On SIGINT or SIGTERM the running cells write a checkpoint, no other cell starts, and ``stopped`` is set.
    """
    outcome = Outcome()

    def emit(event: Event) -> None:
        outcome.add(event)
        for sink in sinks:
            sink.event(event)

    with _stopping(executor) as got:
        executor.run(cells, job, emit)
    outcome.stopped = got[0] if got else 0
    return outcome


@contextmanager
def _stopping(executor: Executor) -> Iterator[list[int]]:
    """Stop signals reach the executor; yields a list that gets their numbers. Only the main thread can do this."""
    got: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield got
        return

    def on_signal(number: int, frame: Any) -> None:
        got.append(number)
        executor.stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
