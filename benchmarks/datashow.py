"""``bench data show``: what a data set says of itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backbench.benchmarks import tasks
from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.leaderboard.normalise import d4rl_score

BINS = 16
BAR = 50


def environment_of(name: str) -> str | None:
    """The environment that D4RL's normaliser knows a data set's returns by; None when it knows none."""
    known = {row["environment"] for suite in tasks.suites() for row in tasks.table(suite)["tasks"].values()}
    return next((e for e in sorted(known) if f"/{e}/" in f"/{name}/"), None)


def show(names: Sequence[str], console: Console, histogram: bool) -> None:
    """A line for each data set; with ``histogram`` also its hash, lengths and a histogram of its returns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("data set", overflow="fold")
    for column in ("steps", "episodes", "return", "range", "score"):
        table.add_column(column, justify="right", no_wrap=True)
    loaded = {name: store.read(name) for name in names}
    for name, data in loaded.items():
        s, environment = data.summary(), environment_of(name)
        table.add_row(
            escape(name),
            f"{s['steps']:,}",
            f"{s['episodes']:,}",
            f"{s['return_mean']:.0f} ± {s['return_std']:.0f}",
            f"{s['return_min']:.0f}…{s['return_max']:.0f}",
            f"{d4rl_score(environment, s['return_mean']):.1f}" if environment else "-",
        )
    console.print(table)
    console.print("return: mean and standard deviation over episodes; score: D4RL normalised mean", style="dim")
    if histogram:
        for name, data in loaded.items():
            _details(name, data, console)


def _details(name: str, data: Trajectories, console: Console) -> None:
    low, middle, high = (int(q) for q in np.quantile(data.lengths, (0.05, 0.5, 0.95)))
    console.print(f"\n{name}", style="bold", markup=False, highlight=False)
    console.print(f"sha256 {data.digest}", highlight=False, soft_wrap=True)
    for line in (
        f"lengths 5/50/95 %: {low}, {middle}, {high} steps; {1 - data.terminated.mean():.0%} reach the time limit",
        f"states {data.states.shape[1:]}, actions {data.actions.shape[1:]} "
        f"in [{data.actions.min():.2f}, {data.actions.max():.2f}]",
    ):
        console.print(line, markup=False, highlight=False)
    counts, edges = np.histogram(data.returns, bins=BINS, weights=data.lengths)
    console.print("share of steps by their episode's return:", highlight=False)
    for count, left, right in zip(counts / counts.sum(), edges[:-1], edges[1:], strict=True):
        bar = "█" * round(BAR * count / max(counts / counts.sum()))
        console.print(f"{left:>9.0f} … {right:<9.0f} {count:>6.1%} {bar}", highlight=False)
