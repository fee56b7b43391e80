"""Data sources: what tasks lack in the store, and getting it. No source stands in for another."""

import multiprocessing
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from backbench import terminal
from backbench.benchmarks.data.errors import DataError, Progress, Report
from backbench.benchmarks.data.processes import in_worker, leaving_on_sigterm, plain_workers
from backbench.benchmarks.data.sources.source import SOURCES, Pull, Source, source_of
from backbench.claims import alone
from backbench.errors import suggest

__all__ = [
    "SOURCES",
    "Plan",
    "Pull",
    "Source",
    "fetch",
    "leaving_on_sigterm",
    "make_all",
    "plain_workers",
    "plan",
    "pull",
    "source_of",
    "summary",
]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What the store lacks: ids of data sets to make, and (source, id) of data sets to fetch."""

    make: tuple[str, ...]
    fetch: tuple[tuple[str, str], ...]


def plan(wanted: Iterable[tuple[str, str]]) -> Plan:
    """Which of these (source, id) the store lacks. DataError, with a remedy, if one can be neither made nor fetched."""
    from backbench.benchmarks.data import store

    make, fetch_ = [], []
    for name, data_id in dict.fromkeys(wanted):
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
            get = f"get it: {command}" if command else "put the set there, in Minari's format, under that id"
            raise DataError(f"data source '{name}': {data_id!r} is not in the store {store.root()}; {get}")
    return Plan(tuple(make), tuple(fetch_))


def fetch(
    wanted: Sequence[tuple[str, str]], report: Report, transfer: Callable[[str], AbstractContextManager[Progress]]
) -> None:
    """Fetch the (source, id) of ``Plan.fetch``. ``transfer`` makes a progress bar for an id."""
    with leaving_on_sigterm():
        for name, data_id in wanted:
            with transfer(data_id) as progress:
                SOURCES.get(name).fetch(data_id, Pull(report=report, progress=progress))
            report(summary(data_id))


def bring(source: str, data_id: str, report: Report) -> None:
    """Fetch or make a data set that the store lacks: once, also if several processes ask at a time. Raises as ``plan``
    does, and ``DataError``."""
    from backbench.benchmarks.data import store

    if store.exists(data_id):
        return
    with alone(store.root() / f".claim-bring-{urllib.parse.quote(data_id, safe='')}"):
        due = plan([(source, data_id)])
        fetch(due.fetch, report, lambda _: nullcontext(lambda *_: None))
        if due.make:
            make_all(due.make, 1, report)


def pull(source: str, names: Sequence[str], how: Pull, suites: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Get data sets of a source that are fetched or imported. Those in the store stay unless ``how.force``.

    ``names`` are ids, tasks, suites, or the source's short names, empty for its default. ``suites`` has the ids that
    each suite or task with data of the source stands for. Returns the ids, each when it is in the store. Raises
    ``DataError`` for an unknown source or name, an option that the source lacks, or what ``Source.fetch`` raises.
    """
    pullable = {name: found for name, found in SOURCES.all().items() if found.kind in ("fetched", "imported")}
    if source not in pullable:
        raise DataError(f"data source '{source}' cannot be pulled{suggest(source, pullable)}")
    chosen = pullable[source]
    names = list(dict.fromkeys(names or chosen.default_names))
    if not names:
        some = f"name some, a task or a suite: bench data list --source {source}"
        raise DataError(f"source '{source}' has many data sets; {some}")
    chosen.check_pull(names, how)
    every = [id_ for name in names for id_ in suites.get(name, [name])]
    ids = dict.fromkeys(chosen.resolve(id_, how, suites) for id_ in every)
    return (_pull(chosen, id_, how) for id_ in ids)


def _pull(source: Source, data_id: str, how: Pull) -> str:
    from backbench.benchmarks.data import store

    if store.exists(data_id) and store.sidecar(data_id) and not how.force:
        how.report(f"{data_id} is in the store already; --force replaces it")
    else:
        source.fetch(data_id, how)
    return data_id


def summary(data_id: str) -> str:
    """A line about a data set that was fetched."""
    from backbench.benchmarks.data import store

    recorded = store.sidecar(data_id)
    return f"{data_id}: {recorded['episodes']:,} episodes, {recorded['steps']:,} steps, sha256 {recorded['digest']}"


def make_all(names: Sequence[str], jobs: int, report: Report) -> None:
    """Make data sets in ``jobs`` processes. ``report`` gets each id that is done. DataError if one cannot be made."""
    from backbench.benchmarks.data import store

    store.clear_leftovers()
    processes = multiprocessing.get_context("spawn")
    with plain_workers(), leaving_on_sigterm(), processes.Pool(min(jobs, len(names)), initializer=in_worker) as pool:
        pending = {name: pool.apply_async(_make, (name,)) for name in names}
        said = []
        for name, result in pending.items():
            problem, note = result.get()
            if problem:
                raise DataError(problem)
            report(name)
            said.append(note)
        pool.close()  # workers that are ended while they exit print a traceback
        pool.join()
    for note in filter(None, said):
        terminal.line(note, error=True)


def _make(name: str) -> tuple[str, str]:
    """Make one data set in a worker, unless another process makes it meanwhile: (error, note).

    The error is text, since not every exception can be pickled.
    """
    from backbench.benchmarks.data import store

    there = store.exists(name)
    try:
        with alone(store.root() / f".claim-{urllib.parse.quote(name, safe='')}"):
            if there or not store.exists(name):
                return "", source_of(name).make(name)
    except DataError as error:
        return str(error), ""
    except OSError as error:
        return f"cannot write to the data store {store.root()}: {error.strerror}; set MINARI_DATASETS_PATH", ""
    return "", ""
