"""``--tune N``: run the trials of a request, and choose a setting from their records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from backbench import terminal
from backbench.benchmarks.plan.tune import Tuning
from backbench.benchmarks.run.results import failure_path, finished
from backbench.errors import UserError
from backbench.leaderboard.board import tuning as board
from backbench.leaderboard.board.tuning import tunings
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.text import plain

if TYPE_CHECKING:
    from rich.console import Console

    from backbench.benchmarks.plan.settings import Cell
    from backbench.leaderboard.record.schema import Record

Run = Callable[[Sequence["Cell"]], int]  # runs what is left of some cells; the exit status


def tuned_cells(asked: Tuning, results: Path, run: Run, console: Console, errors: Console) -> tuple[list[Cell], int]:
    """The cells to report, after the trials, and the exit status so far: 1 if a backbone has no setting.
    No cells if the trials were stopped, or none chose a setting."""
    chosen, found = choose(asked, results)
    if left := [cell for cell in asked.trials if cell.backbone not in chosen]:  # what diverged is not tried again
        if (status := run(left)) > 128:
            return [], status
        chosen, found = choose(asked, results)
    if lost := [plain(name) for name in asked.request.backbones if name not in chosen]:
        said = "trials did not end, or all failed; its cells do not run"
        terminal.say(errors, f"bench: no setting for {', '.join(lost)}: {said}")
    if not chosen:
        return [], 1
    tasks = ", ".join(next(iter(found.values())).tasks)
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
