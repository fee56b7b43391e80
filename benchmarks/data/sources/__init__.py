"""Data sources: what tasks lack in the store, getting it, and loading it. No source stands in for another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.processes import in_worker, leaving_on_sigterm, one_thread
from backbench.benchmarks.data.reporting import Progress, Report
from backbench.benchmarks.data.sources.registry import SOURCES, source_of
from backbench.benchmarks.data.sources.source import Pull, Source

if TYPE_CHECKING:
    from backbench.benchmarks.data.trajectories import Trajectories

__all__ = [
    "SOURCES", "Plan", "Pull", "Source", "fetch", "leaving_on_sigterm", "load", "make_all", "one_thread", "plan",
    "source_of",
]  # fmt: skip


class HasData(Protocol):
    """A task, as far as this room needs it."""

    @property
    def data_id(self) -> str:
        """Id of its data set in the store."""


@dataclass(frozen=True)
class Plan:
    """What some tasks lack: ids of data sets to make, and (source, id) of data sets to fetch."""

    make: tuple[str, ...]
    fetch: tuple[tuple[str, str], ...]


def plan(wanted: Iterable[tuple[str, HasData]]) -> Plan:
    """What these (source, task) lack in the store.

    Raises:
        DataError: a data set is missing that can be neither made nor fetched. Says how to get it.
    """
    from backbench.benchmarks.data import store

    make, fetch_ = [], []
    for name, data_id in dict.fromkeys((name, task.data_id) for name, task in wanted):
        source = SOURCES.get(name)
        if store.exists(data_id) and not (source.needs_sidecar and not store.sidecar(data_id)):
            continue
        if source.kind == "made":
            source.check(data_id)
            make.append(data_id)
        elif source.kind == "fetched":
            fetch_.append((name, data_id))
        else:
            command = source.command(data_id)
            raise DataError(
                f"data source '{name}': {data_id!r} is not in the store {store.root()}; "
                + (f"get it: {command}" if command else "put the set there, in Minari's format, under that id")
            )
    return Plan(tuple(make), tuple(fetch_))


def fetch(
    wanted: Sequence[tuple[str, str]], report: Report, transfer: Callable[[str], AbstractContextManager[Progress]]
) -> None:
    """Fetch the (source, id) of ``Plan.fetch``, one after another.

    Args:
        wanted: sources and ids.
        report: receives lines of text.
        transfer: makes a progress bar for an id.

    Raises:
        DataError: a data set cannot be fetched.
    """
    from backbench.benchmarks.data.sources.pull import summary

    with leaving_on_sigterm():
        for name, data_id in wanted:
            with transfer(data_id) as progress:
                SOURCES.get(name).fetch(data_id, Pull(report=report, progress=progress))
            report(summary(data_id))


def make_all(names: Sequence[str], jobs: int, report: Report) -> None:
    """Make data sets in ``jobs`` processes. ``report`` gets each id when it is done.

    Raises:
        DataError: a data set cannot be made.
    """
    from backbench.benchmarks.data import store

    store.clear_leftovers()
    with (
        one_thread(),
        leaving_on_sigterm(),
        multiprocessing.get_context("spawn").Pool(min(jobs, len(names)), initializer=in_worker) as pool,
    ):
        pending = {name: pool.apply_async(_make, (name,)) for name in names}
        for name, result in pending.items():
            if problem := result.get():
                raise DataError(problem)
            report(name)
        pool.close()  # workers that are ended while they exit print a traceback
        pool.join()


def _make(name: str) -> str:
    """Make one data set in a worker; returns its error as text, since not every exception can be pickled."""
    try:
        source_of(name).make(name)
    except DataError as error:
        return str(error)
    return ""


def load(task: HasData) -> Trajectories:
    """The task's data set from the store, checked."""
    from backbench.benchmarks.data import store

    return store.read(task.data_id)
