"""``--tune N``: run the trials of a request, and choose a setting from their records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from backbench import terminal
from backbench.benchmarks.plan.tune import Tuning
from backbench.benchmarks.tune.scores import choose
from backbench.benchmarks.tune.search import Run, search
from backbench.leaderboard.board import tuning as board
from backbench.text import plain

if TYPE_CHECKING:
    from rich.console import Console

    from backbench.benchmarks.plan.settings import Cell


def tuned_cells(asked: Tuning, results: Path, run: Run, console: Console, errors: Console) -> tuple[list[Cell], int]:
    """The cells to report, after the trials, and the exit status so far: 1 if a backbone has no setting.
    No cells if the trials were stopped, or none chose a setting."""
    if asked.space:
        tried, status = search(asked, results, run, lambda line: terminal.say(console, line))
        if status > 128:
            return [], status
        chosen, found = choose(asked, results, tried)
    else:
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
    console.print(_proposed(asked, found) if asked.space else _table(asked, found))
    return asked.reported(chosen), int(bool(lost))


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


def _proposed(asked: Tuning, found: dict[str, board.Tuning]) -> Table:
    """The best three settings of each backbone, since each has its own."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backbone")
    for place in ("best", "second", "third"):
        table.add_column(place)
    for name in (name for name in asked.request.backbones if name in found):
        known = [(score, words) for words, score in found[name].scores.items() if score is not None]
        best = sorted(known, key=lambda one: (-one[0], one[1]))[:3]
        shown = [Text(f"{plain(words)}: ") + _score(score, not place) for place, (score, words) in enumerate(best)]
        table.add_row(Text(plain(name)), *shown)
    return table


def _score(score: float | None, chosen: bool) -> Text:
    return Text(("failed" if score is None else f"{score:.1f}") + ("*" if chosen else " "), "bold" if chosen else "")
