"""``bench run --tune N``: run the trials, say which setting each backbone gets, and return the cells to report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from backbench import terminal
from backbench.benchmarks.plan.tune import Tuning
from backbench.benchmarks.run.results import failure_path, finished
from backbench.leaderboard.board import tuning as board
from backbench.leaderboard.board.tuning import tunings
from backbench.leaderboard.record.files import load_record
from backbench.text import plain

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.leaderboard.record.schema import Record

Run = Callable[[Sequence["Cell"]], int]  # runs what is left of some cells; the exit status


def tuned_cells(tuning: Tuning, results: Path, run: Run) -> tuple[list[Cell], int]:
    """The cells to report, after the trials. Without them if these did not end: then the exit status says why."""
    chosen, found = choose(tuning, results)
    if len(chosen) < len(tuning.request.backbones):  # a trial that diverged is not tried again
        if (status := run(tuning.trials())) > 128:
            return [], status
        chosen, found = choose(tuning, results)
    if len(chosen) < len(tuning.request.backbones):
        lost = ", ".join(plain(name) for name in tuning.request.backbones if name not in chosen)
        terminal.line(f"bench: no setting for {lost}: trials did not end, or all failed; see above", error=True)
        return [], 1
    console, tasks = terminal.console(), ", ".join(next(iter(found.values())).tasks)
    terminal.say(console, f"Trials, mean score on {tasks}; * is chosen. Reported cells have other starts and seeds.")
    console.print(_table(tuning, found))
    return tuning.reported(chosen), 0


def choose(tuning: Tuning, results: Path) -> tuple[dict[str, tuple[str, ...]], dict[str, board.Tuning]]:
    """Backbone -> its setting, for those whose trials all ended and did not all fail; and the trials of each."""
    records = [record for cell in tuning.trials() if (record := _record(cell, results)) is not None]
    found = {key[0]: one for key, one in tunings(records).items() if one.complete and one.best is not None}
    words = {" ".join(sorted(setting)): setting for setting in tuning.settings}
    return {name: words[one.best] for name, one in found.items() if one.best is not None}, found


def _record(cell: Cell, results: Path) -> Record | None:
    """The record of a cell, done or failed."""
    failed = failure_path(cell, results)
    return finished(cell, results) or (load_record(failed) if failed.exists() else None)


def _table(tuning: Tuning, found: dict[str, board.Tuning]) -> Table:
    """The trials' scores: a line for each backbone, a column for each setting."""
    settings = list(next(iter(found.values())).scores)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backbone")
    for words in settings:
        table.add_column(Text(plain(words)), justify="right")
    for name in tuning.request.backbones:
        trials = found[name]
        shown = [_score(trials.scores[words], words == trials.best) for words in settings]
        table.add_row(Text(plain(name)), *shown)
    return table


def _score(score: float | None, chosen: bool) -> Text:
    return Text(("failed" if score is None else f"{score:.1f}") + ("*" if chosen else " "), "bold" if chosen else "")
