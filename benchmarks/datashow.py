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
from backbench.leaderboard.normalise import normalise

BINS = 16
BAR = 50


def _score(name: str, value: float) -> str:
    """Under the normaliser of the task whose environment the data set's id names; a dash when there is none."""
    for suite in tasks.suites():
        content = tasks.table(suite)
        for row in content["tasks"].values():
            if f"/{row['environment']}/" in f"/{name}/":
                return f"{normalise(content['normaliser'], row['environment'], value):.1f}"
    return "-"


def show(names: Sequence[str], console: Console, histogram: bool) -> None:
    """A line for each data set; with ``histogram`` also its hash, lengths and a histogram of its returns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("data set", overflow="fold")
    for column in ("steps", "episodes", "return", "range", "score"):
        table.add_column(column, justify="right", no_wrap=True)
    loaded = {name: store.read(name) for name in names}
    for name, data in loaded.items():
        s = data.summary()
        table.add_row(
            escape(name),
            f"{s['steps']:,}",
            f"{s['episodes']:,}",
            f"{s['return_mean']:.0f} ± {s['return_std']:.0f}",
            f"{s['return_min']:.0f}…{s['return_max']:.0f}",
            "-" if data.rewards_clipped else _score(name, s["return_mean"]),
        )
    console.print(table)
    console.print(
        "return: mean and standard deviation over episodes; score: normalised mean, of D4RL or dt-gamer", style="dim"
    )
    if histogram:
        for name, data in loaded.items():
            _details(name, data, console)


def _actions(data: Trajectories) -> str:
    if data.n_actions is None:
        return f"actions {data.actions.shape[1:]} in [{data.actions.min():.2f}, {data.actions.max():.2f}]"
    shares = np.bincount(data.actions, minlength=data.n_actions) / len(data.actions)
    clipped = "; rewards clipped to [-1, 1]" if data.rewards_clipped else ""
    return f"{data.n_actions} actions, shares {', '.join(f'{share:.0%}' for share in shares)}{clipped}"


def _details(name: str, data: Trajectories, console: Console) -> None:
    low, middle, high = (int(q) for q in np.quantile(data.lengths, (0.05, 0.5, 0.95)))
    console.print(f"\n{name}", style="bold", markup=False, highlight=False)
    console.print(f"sha256 {data.digest}", highlight=False, soft_wrap=True)
    for line in (
        f"lengths 5/50/95 %: {low}, {middle}, {high} steps; {1 - data.terminated.mean():.0%} reach the time limit",
        f"states {data.state_shape}, {_actions(data)}",
    ):
        console.print(line, markup=False, highlight=False)
    counts, edges = np.histogram(data.returns, bins=BINS, weights=data.lengths)
    console.print("share of steps by their episode's return:", highlight=False)
    for count, left, right in zip(counts / counts.sum(), edges[:-1], edges[1:], strict=True):
        bar = "█" * round(BAR * count / max(counts / counts.sum()))
        console.print(f"{left:>9.0f} … {right:<9.0f} {count:>6.1%} {bar}", highlight=False)
