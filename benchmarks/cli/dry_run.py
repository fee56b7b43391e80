"""``bench run --dry-run``: the cells of a request, an estimate of their time, and the settings of the first."""

from pathlib import Path

import yaml
from rich.table import Table

from backbench import terminal
from backbench.benchmarks.plan.compose import plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.run import machine
from backbench.benchmarks.run.estimate import Estimator
from backbench.benchmarks.run.runner import remaining
from backbench.benchmarks.run.sinks.terminal import clock
from backbench.leaderboard.record.files import FOLDER
from backbench.text import plain


def show_plan(request: Request, out: Path, jobs: int) -> None:
    """Print the plan. ``out`` is the folder of results; nothing is written there."""
    console, estimator = terminal.console(), Estimator([out, FOLDER])
    cells = plan(request)
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
    terminal.line("")
    terminal.say(console, f"Settings of {cells[0].key}:")
    terminal.write(yaml.safe_dump(cells[0].resolved(), sort_keys=False, width=100))
