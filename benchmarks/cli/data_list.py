"""``bench data list``: the data sets in the store, and those that can be made or pulled."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import SOURCES, source_of
from backbench.benchmarks.plan import suites
from backbench.errors import UserError


@dataclass(frozen=True)
class Row:
    """A data set. ``size`` is in bytes on disk, None if it is not in the store. Unknown counts are None."""

    name: str
    source: str
    licence: str
    size: int | None = None
    steps: int | None = None
    episodes: int | None = None
    command: str = ""


def listed() -> list[Row]:
    """The data sets in the store by name, then the others, source by source."""
    rows = [_in_store(name) for name in store.names()]
    there = {row.name for row in rows}
    tasks = [task for content in suites.tables() for task in content.tasks.values()]
    for name, source in SOURCES.all().items():
        of_suites = [task.sources[name].data_id for task in tasks if name in task.sources]
        rows += [
            Row(id_, name, source.licence, command=source.command(id_))
            for id_ in dict.fromkeys([*source.ids(), *of_suites])
            if id_ not in there and source.command(id_)
        ]
    return rows


def _in_store(name: str) -> Row:
    try:
        recorded = store.sidecar(name)
    except UserError as error:
        return Row(name, "broken", str(error), store.size(name))
    counts = recorded or store.counts(name)
    origin = recorded.get("origin", {})
    source = origin.get("source") or source_of(name).name
    licence = origin.get("licence") or (SOURCES.get(source).licence if source in SOURCES.names() else "-")
    return Row(name, source, licence, store.size(name), counts.get("steps"), counts.get("episodes"))


def show(rows: Sequence[Row]) -> None:
    """Print a line for each data set, with a command for those that are not in the store."""
    # In a pipe, a truncated command could not be copied.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    here, elsewhere = [row for row in rows if row.size is not None], [row for row in rows if row.size is None]
    console.print(f"In the store {store.root()}: {len(here)} data sets", markup=False, highlight=False, soft_wrap=True)
    if here:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("data set", "source", "steps", "episodes", "MB", "licence"):
            right = name in ("steps", "episodes", "MB")
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "licence", overflow="fold")
        for row in here:
            counts = [f"{count:,}" if count is not None else "-" for count in (row.steps, row.episodes)]
            table.add_row(escape(row.name), row.source, *counts, f"{(row.size or 0) / 1e6:,.1f}", escape(row.licence))
        console.print(table)
    if elsewhere:
        console.print(f"\nNot in the store: {len(elsewhere)}", highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("data set", "source", "licence", "get it"):
            table.add_column(name, no_wrap=True)
        for row in elsewhere:
            table.add_row(escape(row.name), row.source, row.licence, row.command)
        console.print(table)
