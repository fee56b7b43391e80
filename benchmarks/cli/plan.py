"""``--dry-run`` lists the cells of a request. ``--tune N`` runs its trials first and chooses a setting from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.table import Table
from rich.text import Text

from backbench import terminal
from backbench.benchmarks.plan.compose import check_models, plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.tune import Tuning, tuning
from backbench.benchmarks.run import machine
from backbench.benchmarks.run.estimate import Estimator
from backbench.benchmarks.run.results import failure_path, finished
from backbench.benchmarks.run.runner import remaining
from backbench.benchmarks.run.sinks.terminal import clock
from backbench.errors import UserError
from backbench.leaderboard.board import tuning as board
from backbench.leaderboard.board.tuning import tunings
from backbench.leaderboard.record.files import FOLDER, RecordError, load_record
from backbench.text import plain

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.leaderboard.record.schema import Record

Run = Callable[[Sequence["Cell"]], int]  # runs what is left of some cells; the exit status


def tuned_cells(asked: Tuning, results: Path, run: Run) -> tuple[list[Cell], int]:
    """The cells to report, after the trials, and the exit status so far: 1 if a backbone has no setting.
    No cells if the trials were stopped, or none chose a setting."""
    chosen, found = choose(asked, results)
    if left := [cell for cell in asked.trials if cell.backbone not in chosen]:  # what diverged is not tried again
        if (status := run(left)) > 128:
            return [], status
        chosen, found = choose(asked, results)
    if lost := [plain(name) for name in asked.request.backbones if name not in chosen]:
        said = "trials did not end, or all failed; its cells do not run"
        terminal.line(f"bench: no setting for {', '.join(lost)}: {said}", error=True)
    if not chosen:
        return [], 1
    console, tasks = terminal.console(), ", ".join(next(iter(found.values())).tasks)
    terminal.say(console, f"Trials, mean score on {tasks}; * is chosen. Reported cells have other starts and seeds.")
    console.print(_table(asked, found))
    return asked.reported(chosen), int(bool(lost))


def choose(asked: Tuning, results: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, board.Tuning]]:
    """Backbone -> its setting, for those whose trials all ended and did not all fail; and the trials of each."""
    records = [record for cell in asked.trials if (record := _record(cell, results)) is not None]
    found = {key.row[0]: one for key, one in tunings(records).items() if one.complete and one.best is not None}
    words = {" ".join(sorted(setting)): setting for setting in asked.settings}
    return {name: words[one.best] for name, one in found.items() if one.best is not None}, found


def _record(cell: Cell, results: Path) -> Record | None:
    """The record of a cell, done or failed."""
    failed = failure_path(cell, results)
    try:
        return finished(cell, results) or (load_record(failed) if failed.exists() else None)
    except RecordError as error:
        raise UserError(str(error)) from error


def _table(asked: Tuning, found: dict[str, board.Tuning]) -> Table:
    """The trials' scores: a line for each backbone, a column for each setting."""
    settings = list(next(iter(found.values())).scores)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backbone")
    for words in settings:
        table.add_column(Text(plain(words)), justify="right")
    for name in (name for name in asked.request.backbones if name in found):
        trials = found[name]
        shown = [_score(trials.scores[words], words == trials.best) for words in settings]
        table.add_row(Text(plain(name)), *shown)
    return table


def _score(score: float | None, chosen: bool) -> Text:
    return Text(("failed" if score is None else f"{score:.1f}") + ("*" if chosen else " "), "bold" if chosen else "")


def show_plan(request: Request, out: Path, jobs: int, tune: int = 0) -> None:
    """Print the plan. ``out`` is the folder of results; nothing is written there."""
    console, estimator = terminal.console(), Estimator([out, FOLDER])
    cells, later = _tuned(request, out, tune) if tune else (plan(request), 0)
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


def _tuned(request: Request, out: Path, count: int) -> tuple[list[Cell], int]:
    """The trials, with the cells to report if all trials are done; else how many those will be."""
    found = tuning(request, count)
    trials, chosen = found.trials, choose(found, out)[0]
    if len(chosen) == len(request.backbones):
        return trials + found.reported(chosen), 0
    return trials, len(found.untuned)
