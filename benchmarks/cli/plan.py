"""``--dry-run`` lists the cells of a request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.table import Table

from backbench import terminal
from backbench.benchmarks.plan.compose import check_models, plan
from backbench.benchmarks.plan.request import Budget, Request
from backbench.benchmarks.plan.tune import GRID, Tuning, tuning
from backbench.benchmarks.run import machine
from backbench.benchmarks.run.estimate import Estimator
from backbench.benchmarks.run.runner import remaining
from backbench.benchmarks.run.sinks.terminal import clock
from backbench.benchmarks.tune.scores import choose
from backbench.leaderboard.record.files import FOLDER
from backbench.text import plain

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

MANY = 10**6


def show_plan(request: Request, out: Path, jobs: int, tune: int | str = 0, sampler: str = GRID) -> None:
    """Print the plan. ``out`` is the folder of results; nothing is written there."""
    console, estimator = terminal.console(), Estimator([out, FOLDER])
    cells, later = _tuned(request, out, tune, sampler) if Budget.of(tune) else (plan(request), 0)
    check_models(cells)
    left = {cell.key: estimator.seconds(cell) for cell in remaining(cells, out)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cell", "state", "about"):
        table.add_column(name, justify="right" if name == "about" else "left", overflow="fold")
    for cell in cells:
        seconds = left.get(cell.key)
        table.add_row(
            plain(cell.key), "to run" if cell.key in left else "done", clock(seconds) if seconds is not None else ""
        )
    console.print(table)
    known = [seconds for seconds in left.values() if seconds is not None]
    jobs = min(jobs or machine.cores(), max(1, len(left)))
    time = f"about {clock(sum(known) / jobs)} with {jobs} at a time" if known else "time unknown"
    if known and len(known) < len(left):
        time += f"; {len(left) - len(known)} without a finished record of that backbone and size"
    terminal.say(console, f"{len(left)} of {len(cells)} cells to run; {time}. {estimator.basis}")
    if later:
        terminal.say(console, f"These are trials. {later} cells with the settings that they choose come after them.")
    terminal.line("")
    terminal.say(console, f"Settings of {cells[0].key}:")
    terminal.write(yaml.safe_dump(cells[0].resolved(), sort_keys=False, width=100))


def _tuned(request: Request, out: Path, tune: int | str, sampler: str) -> tuple[list[Cell], int]:
    """The trials, with the cells to report if all trials are done; else how many those will be."""
    found = tuning(request, tune, sampler)
    if found.space:
        said = f"{_trials_of(found)} on {len(found.tasks)} tasks"
        terminal.say(terminal.console(), f"{said}, which {sampler} proposes, come first for each backbone. Then:")
        return list(found.untuned), 0
    trials, chosen = found.trials, choose(found, out)[0]
    if len(chosen) == len(request.backbones):
        return trials + found.reported(chosen), 0
    return trials, len(found.untuned)


def _trials_of(found: Tuning) -> str:
    """How many trials there will be."""
    if not found.budget.flops:
        return f"{found.budget.count} trials"
    from backbench.benchmarks.tune.flops import affordable

    counts = {name: affordable(found, name, [], MANY) for name in found.request.backbones}
    return ", ".join(f"{count} trials of {plain(name)}" for name, count in counts.items())
