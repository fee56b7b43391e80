"""``bench data pull``: get published data sets into the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.registry import SOURCES
from backbench.benchmarks.data.sources.source import Pull, Source
from backbench.errors import suggest


def pull(source: str, names: Sequence[str], how: Pull, suites: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Get data sets of a source. Those in the store stay unless ``how.force``.

    Args:
        source: name of a source whose sets are fetched or imported.
        names: ids, tasks, suites, or the source's own short names. Empty for its default.
        how: the options.
        suites: the ids that each suite or task with data of the source stands for.

    Returns:
        The ids, each when it is in the store.

    Raises:
        DataError: an unknown source or name, an option that the source does not have, or what ``Source.fetch`` raises.
    """
    pullable = {name: found for name, found in SOURCES.all().items() if found.kind in ("fetched", "imported")}
    if source not in pullable:
        raise DataError(f"data source '{source}' cannot be pulled{suggest(source, pullable)}")
    chosen = pullable[source]
    names = list(dict.fromkeys(names or chosen.default_names))
    if not names:
        raise DataError(
            f"source '{source}' has many data sets; name some, a task or a suite: bench data list --source {source}"
        )
    chosen.check_pull(names, how)
    every = [id_ for name in names for id_ in suites.get(name, [name])]
    ids = dict.fromkeys(chosen.resolve(id_, how, suites) for id_ in every)
    return (_one(chosen, id_, how) for id_ in ids)


def _one(source: Source, data_id: str, how: Pull) -> str:
    if store.exists(data_id) and store.sidecar(data_id) and not how.force:
        how.report(f"{data_id} is in the store already; --force replaces it")
    else:
        source.fetch(data_id, how)
    return data_id


def summary(data_id: str) -> str:
    """A line about a data set that was pulled."""
    recorded = store.sidecar(data_id)
    return f"{data_id}: {recorded['episodes']:,} episodes, {recorded['steps']:,} steps, sha256 {recorded['digest']}"
