"""Source ``local``: data sets that the user or another program has put into the store."""

from __future__ import annotations

from backbench.benchmarks.data.sources.source import Source


class Local(Source):
    """Data sets of any id, in Minari's format."""

    name = "local"
    any_id = True


SOURCE = Local()
