"""What ``bench data list``, ``show`` and ``verify`` print: data sets, where to get them, figures and findings."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from backbench import terminal
from backbench.benchmarks.data import store
from backbench.benchmarks.data.describe import Finding, inspect
from backbench.benchmarks.data.sources import SOURCES, source_of
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan import suites
from backbench.errors import UserError
from backbench.leaderboard.scores.normalise import normalise
from backbench.text import plain


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
        ids = [*source.ids(), *(task.sources[name].data_id for task in tasks if name in task.sources)]
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in there and source.command(id_)]
        rows += [Row(id_, name, source.licence, command=source.command(id_)) for id_ in missing]
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


def show_list(rows: Sequence[Row]) -> None:
    """Print a line for each data set, with a command for those that are not in the store."""
    # In a pipe, a truncated command could not be copied.
    console = terminal.console(width=None if sys.stdout.isatty() else 200)
    here, elsewhere = [row for row in rows if row.size is not None], [row for row in rows if row.size is None]
    terminal.say(console, f"In the store {store.root()}: {len(here)} data sets")
    if here:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("data set", "source", "steps", "episodes", "MB", "licence"):
            right = name in ("steps", "episodes", "MB")
            table.add_column(name, justify="right" if right else "left", no_wrap=name != "licence", overflow="fold")
        for row in here:
            counts = [f"{count:,}" if count is not None else "-" for count in (row.steps, row.episodes)]
            table.add_row(plain(row.name), row.source, *counts, f"{(row.size or 0) / 1e6:,.1f}", plain(row.licence))
        console.print(table)
    if elsewhere:
        console.print(f"\nNot in the store: {len(elsewhere)}")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("data set", "source", "licence", "get it"):
            table.add_column(name, no_wrap=True)
        for row in elsewhere:
            table.add_row(plain(row.name), row.source, row.licence, row.command)
        console.print(table)


BINS, BAR = 16, 50  # of the histogram: number of bins, width of the longest bar


def _score(name: str, value: float) -> str:
    """The score by the normaliser of the data set's task, or else of its environment. A dash if there is none."""
    near: tuple[Any, str, Any] | None = None
    for content in suites.tables():
        for task, row in content.tasks.items():
            if any(name == source.data_id for source in row.sources.values()):
                return f"{normalise(content.normaliser, task, value, row.reference):.1f}"
            if near is None and not row.reference and f"/{row.environment}/" in f"/{name}/":
                near = (content, task, row)
    return "-" if near is None else f"{normalise(near[0].normaliser, near[1], value):.1f}"


def show(names: Sequence[str], histogram: bool) -> None:
    """Print a line for each data set, with ``histogram`` also hash, lengths, a histogram of returns and findings."""
    console, table = terminal.console(), Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("data set", overflow="fold")
    for column in ("steps", "episodes", "return", "range", "score"):
        table.add_column(column, justify="right", no_wrap=True)
    loaded, problems = {}, []
    for name in names:
        try:
            loaded[name] = store.read(name)
        except UserError as error:
            if histogram:  # the user named it
                raise
            problems.append(f"{name} cannot be used: {error}")
            continue
        s = loaded[name].summary()
        returns = f"{s['return_mean']:.0f} ± {s['return_std']:.0f}", f"{s['return_min']:.0f}…{s['return_max']:.0f}"
        score = "-" if loaded[name].rewards_clipped else _score(name, s["return_mean"])
        table.add_row(plain(name), f"{s['steps']:,}", f"{s['episodes']:,}", *returns, score)
    console.print(table)
    console.print("return: mean and standard deviation over episodes; score: normalised mean return", style="dim")
    for line in problems:
        terminal.say(console, line, "yellow")
    if histogram:
        for name, data in loaded.items():
            _details(name, data, console)


def _actions(data: Trajectories) -> str:
    if data.n_actions is None:
        low, high = data.actions.min(), data.actions.max()
        return f"actions {data.actions.shape[1:]} in [{low:.2f}, {high:.2f}], bounds at -1 and 1"
    shares = np.bincount(data.actions, minlength=data.n_actions) / len(data.actions)
    clipped = "; rewards clipped to [-1, 1]" if data.rewards_clipped else ""
    return f"{data.n_actions} actions, shares {', '.join(f'{share:.0%}' for share in shares)}{clipped}"


def _details(name: str, data: Trajectories, console: Console) -> None:
    low, middle, high = (int(q) for q in np.quantile(data.lengths, (0.05, 0.5, 0.95)))
    share = 1 - data.terminated.mean()
    ended = f"{data.terminated.sum():,} of {len(data.lengths):,} episodes terminated"
    say = console.print
    say(f"\n{plain(name)}", style="bold")
    terminal.say(console, f"sha256 {data.digest}")
    say(f"lengths 5/50/95 %: {low}, {middle}, {high} steps, {data.lengths.min()} to {data.lengths.max()}")
    say(f"{ended}; {share:.0%} were truncated, or are incomplete (then there is a warning)")
    say(f"states {data.state_shape}, {_actions(data)}")
    digits = 0 if np.ptp(data.returns) > BINS else 2
    counts, edges = np.histogram(data.returns, bins=BINS, weights=data.lengths)
    shares = counts / counts.sum()
    say("share of steps by their episode's return:")
    for share, left, right in zip(shares, edges[:-1], edges[1:], strict=True):
        say(f"{left:>9.{digits}f} … {right:<9.{digits}f} {share:>6.1%} {'█' * round(BAR * share / max(shares))}")
    _say(inspect(name), console)


def _say(findings: Sequence[Finding], console: Console) -> None:
    for finding in findings:
        style = "red" if finding.level == "error" else "yellow"
        terminal.say(console, f"{finding.level}: {finding.message}", style)


def verify(names: Sequence[str]) -> bool:
    """Print the findings about each data set. Returns whether all are sound, apart from warnings."""
    console, sound = terminal.console(), True
    for name in names:
        findings = inspect(name)
        broken = any(finding.level == "error" for finding in findings)
        sound = sound and not broken
        warned = f", {len(findings)} warning{'s' if len(findings) > 1 else ''}" if findings else ""
        recorded = "" if broken else f"  sha256 {store.sidecar(name).get('digest', 'never recorded')}"
        state = terminal.styled("BROKEN", "red") if broken else terminal.styled("sound", "green")
        console.print(state, f"{plain(name)}{'' if broken else warned}{recorded}", soft_wrap=True)
        _say(findings, console)
    return sound
