"""Data sources: which there are, making what can be made, and loading what is there. No fallback between them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from backbench.benchmarks.data import embedded, pull, store
from backbench.benchmarks.data.trajectories import DataError, Trajectories
from backbench.benchmarks.tasks import Task

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started in this block compute with one thread: as fast for small matrices, and equal bits anywhere."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _make_quietly(name: str) -> str:
    """One data set, in a process of its own; an error comes back as text, since not every exception can travel."""
    try:
        embedded.make(name)
    except DataError as error:
        return str(error)
    return ""


def _leave(number: int, frame: FrameType | None) -> None:
    """Signal handler: leave through ``finally``, so that no half-made set stays behind."""
    sys.exit(128 + number)


def _in_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, _leave)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """In this block SIGTERM leaves through ``finally``, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_all(names: Sequence[str], jobs: int, report: Callable[[str], None]) -> None:
    """Make embedded data sets side by side; ``report`` gets each name when it is done."""
    workers = min(jobs, len(names))
    store.clear_leftovers()
    with (
        one_thread(),
        leaving_on_sigterm(),
        multiprocessing.get_context("spawn").Pool(workers, initializer=_in_worker) as pool,
    ):
        pending = {name: pool.apply_async(_make_quietly, (name,)) for name in names}
        for name, result in pending.items():
            problem = result.get()
            if problem:
                raise DataError(problem)
            report(name)
        # Let them leave by themselves: one that is ended on its way out says so with a traceback.
        pool.close()
        pool.join()


def to_make(wanted: Iterable[tuple[str, Task]]) -> list[str]:
    """Ids of the data sets that ``make_all`` has to make before these (source, task) can be run.

    Raises:
        DataError: what was asked for is not there and cannot be made; says how to get it.
    """
    missing = [(source, task.data_id) for source, task in wanted if not store.exists(task.data_id)]
    for source, name in missing:
        if source in pull.SOURCES:
            game = name.split("/")[-2]  # <source>/<game>/<kind>-v0
            raise DataError(
                f"data source '{source}': {name!r} is not in the store {store.root()}; "
                f"get it: bench data pull {source} {game}{' --from FOLDER' if source == 'dqn-replay' else ''}"
            )
        if source != "embedded":
            raise DataError(
                f"data source '{source}': {name!r} is not in the store {store.root()}, and this version cannot fetch "
                "or import published data; use --data embedded, or put the set into the store under that id"
            )
        embedded.parse(name)
    return list(dict.fromkeys(name for _, name in missing))


def load(task: Task) -> Trajectories:
    """The task's data from the store, checked."""
    return store.read(task.data_id)
