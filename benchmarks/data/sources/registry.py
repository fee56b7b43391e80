"""The registry of data sources. Importing it imports none of them."""

from __future__ import annotations

from backbench.benchmarks.data.sources.source import Source
from backbench.registry import Registry

NAMES = ("embedded", "d4rl", "minari", "dqn-replay", "local")
# Found by name, when needed: sources write to the store, and the store asks a source for a remedy.
SOURCES: Registry[Source] = Registry(
    "data source", {name: f"{__package__}.{name.replace('-', '_')}:SOURCE" for name in NAMES}, bases=(Source,)
)


def source_of(data_id: str) -> Source:
    """The source that a data set's id belongs to: the local one where no other has the namespace."""
    namespace = data_id.partition("/")[0]
    every = SOURCES.all()
    return next((source for source in every.values() if namespace in source.namespaces), every["local"])
