"""``bench data list``: what is in the store, and what can be had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import d4rl, embedded
from backbench.benchmarks.plan import suites
from backbench.errors import UserError

# Where a set of its own has no word on it.
LICENCES = {"embedded": "MIT", "d4rl": "CC BY 4.0", "minari": "see its page", "dqn-replay": "not stated"}


@dataclass(frozen=True)
class Row:
    """A data set: ``size`` in bytes on disk, None where it is not here; counts where they are noted."""

    name: str
    source: str
    steps: int | None
    episodes: int | None
    size: int | None
    licence: str
    get: str


def listed() -> list[Row]:
    """Sets in the store by name, then those that are not, source by source."""
    rows = [_here(name) for name in store.names()]
    there = {row.name for row in rows}
    rows += [Row(name, "embedded", None, None, None, LICENCES["embedded"], f"bench data make {name}")
             for name in embedded.names() if name not in there]  # fmt: skip
    pulled = [("d4rl", name) for name in d4rl.names()]
    pulled += [
        (source, of.data_id)
        for content in suites.tables()
        for row in content.tasks.values()
        for source, of in row.sources.items()
        if source in ("minari", "dqn-replay")
    ]
    for source, name in dict.fromkeys(pulled):
        if name not in there:
            what = name.split("/")[1] if source == "dqn-replay" or name.startswith("minari/") else name
            if source == "d4rl":
                what = "-".join(name.removesuffix("-v2").split("/")[1:])
            more = " --from FOLDER" if source == "dqn-replay" else ""
            rows.append(Row(name, source, None, None, None, LICENCES[source], f"bench data pull {source} {what}{more}"))
    return rows


def _here(name: str) -> Row:
    try:
        noted = store.sidecar(name)
    except UserError as error:
        return Row(name, "broken", None, None, store.size(name), str(error), "")
    counts = noted or store.counts(name)
    origin = noted.get("origin", {})
    first = name.split("/")[0]
    source = origin.get("source") or {"backbench": "embedded"}.get(first, first if first in LICENCES else "")
    if not source:  # Minari's own ids begin with what the tables say, or else it is the user's
        source = "minari" if name in _minari() else "local"
    return Row(
        name,
        source,
        counts.get("steps"),
        counts.get("episodes"),
        store.size(name),
        origin.get("licence") or LICENCES.get(source, "-"),
        "",
    )


def _minari() -> set[str]:
    return {
        row.sources["minari"].data_id
        for suite in suites.built_in()
        for row in suites.table(suite).tasks.values()
        if "minari" in row.sources
    }


def show(rows: Sequence[Row], console: Console) -> None:
    """A line for each set; what is not here comes with the command that brings it."""
    here = [row for row in rows if row.size is not None]
    console.print(f"In the store {store.root()}: {len(here)} data sets", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("data set", "source", "steps", "episodes", "MB", "licence"):
        right = name in ("steps", "episodes", "MB")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "licence", overflow="fold")
    for row in here:
        counts = [f"{count:,}" if count is not None else "-" for count in (row.steps, row.episodes)]
        table.add_row(escape(row.name), row.source, *counts, f"{(row.size or 0) / 1e6:,.1f}", escape(row.licence))
    if here:
        console.print(table)
    elsewhere = [row for row in rows if row.size is None]
    if elsewhere:
        console.print(f"\nNot here: {len(elsewhere)}", highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("data set", "source", "licence", "get it"):
            table.add_column(name, no_wrap=True)
        for row in elsewhere:
            table.add_row(escape(row.name), row.source, row.licence, row.get)
        console.print(table)
