"""Data sources: which there are, making what can be made, and loading what is there. No fallback between them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType

from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Progress
from backbench.benchmarks.data.sources import embedded, pull
from backbench.benchmarks.data.trajectories import DataError, Trajectories
from backbench.benchmarks.plan.suites import Task

Transfer = AbstractContextManager[Progress]
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


@dataclass(frozen=True)
class Plan:
    """What has to be done before some tasks can be run: ids of sets to make, and (source, id) of sets to fetch."""

    make: tuple[str, ...]
    fetch: tuple[tuple[str, str], ...]


def plan(wanted: Iterable[tuple[str, Task]]) -> Plan:
    """What these (source, task) lack.

    Raises:
        DataError: what was asked for is not there and can be neither made nor fetched; says how to get it.
    """
    missing = dict.fromkeys((source, task.data_id) for source, task in wanted if _lacks(source, task.data_id))
    make = []
    for source, name in missing:
        where = f"data source '{source}': {name!r} is not in the store {store.root()}"
        if source == "embedded":
            make.append(embedded.parse(name).id)
        elif source == "dqn-replay":
            game = name.split("/")[-2]  # <source>/<game>/<kind>-v0
            raise DataError(f"{where}; get it: bench data pull {source} {game} --from FOLDER")
        elif source not in pull.FETCHED:
            raise DataError(f"{where}; put the set there, in Minari's format, under that id")
    return Plan(tuple(make), tuple((source, name) for source, name in missing if source in pull.FETCHED))


def _lacks(source: str, name: str) -> bool:
    """Whether a set is absent, or nobody has looked at it since Minari itself put it there."""
    return not store.exists(name) or (source == "minari" and not store.sidecar(name))


def fetch(
    wanted: Sequence[tuple[str, str]], report: Callable[[str], None], transfer: Callable[[str], Transfer]
) -> None:
    """Bring (source, id) of ``Plan.fetch`` into the store, one after another.

    ``transfer`` makes a bar for the download of an id. DataError where one cannot be had.
    """
    with leaving_on_sigterm():
        for source, name in wanted:
            with transfer(name) as progress:
                pull.bring(source, name, report=report, progress=progress)
            report(pull.summary(name))


def load(task: Task) -> Trajectories:
    """The task's data from the store, checked."""
    return store.read(task.data_id)
