"""Data sources: which there are, making what can be made, and loading what is there. No fallback between them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from backbench.benchmarks.data import embedded, store
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


def make_all(names: Sequence[str], jobs: int, report: Callable[[str], None]) -> None:
    """Make embedded data sets side by side; ``report`` gets each name when it is done."""
    with one_thread(), multiprocessing.get_context("spawn").Pool(min(jobs, len(names))) as pool:
        pending = {name: pool.apply_async(_make_quietly, (name,)) for name in names}
        for name, result in pending.items():
            problem = result.get()
            if problem:
                raise DataError(problem)
            report(name)


def prepare(tasks: Sequence[Task], source: str, jobs: int, report: Callable[[str], None]) -> None:
    """See that the tasks' data are in the store, before any cell runs.

    Raises:
        DataError: what was asked for is not there and cannot be made; says how to get it.
    """
    missing = [name for name in dict.fromkeys(task.data_id for task in tasks) if not store.exists(name)]
    if not missing:
        return
    if source != "embedded":
        raise DataError(
            f"data source '{source}': {missing[0]!r} is not in the store {store.root()}, and this version cannot fetch "
            "or import published data; use --data embedded, or put the set into the store under that id"
        )
    make_all(missing, jobs, report)


def load(task: Task) -> Trajectories:
    """The task's data from the store, checked."""
    return store.read(task.data_id)
