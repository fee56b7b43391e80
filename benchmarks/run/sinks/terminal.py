"""The terminal as a sink: a live table on a terminal, and about ten plain lines a cell elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from backbench import terminal
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import LAST, Event
from backbench.benchmarks.run.runner import Voice
from backbench.leaderboard.record.identity import TRIAL, TUNE, trial, without
from backbench.leaderboard.scores.normalise import normalise
from backbench.terminal import say, styled
from backbench.text import plain

SHOWN = {  # a state's word and its style
    "waiting": ("waiting", "dim"), "started": ("starting", ""), "train": ("training", ""),
    "evaluating": ("evaluating", ""), "eval": ("evaluating", ""), "done": ("done", "green"),
    "failed": ("failed", "red"), "error": ("error", "red"), "stopped": ("stopped", "yellow"),
    "held": ("another process runs it", "dim"), "taken": ("done elsewhere", "green"),
}  # fmt: skip
KINDS = {"held": "waits", "taken": "done by another process"}  # in a log, where the kind's own name does not say it
TRAIN_LINES = 6  # of training a cell, where there is no terminal


@dataclass
class _Line:
    """What is known of one cell."""

    cell: Cell
    state: str = "waiting"
    step: int = 0
    printed: int = 0  # sixths of training that a log has a line for
    loss: float | None = None
    rate: float | None = None
    score: float | None = None
    note: str = ""

    @property
    def eta(self) -> float | None:
        """Seconds of training left."""
        if self.state != "train" or not self.rate:
            return None
        # Three tokens a step: agents.tokenizer has the constant, and would import torch.
        tokens = (self.cell.train.steps - self.step) * self.cell.train.batch_size * self.cell.model.context * 3
        return tokens / self.rate

    def add(self, event: Event) -> None:
        """Take note of an event."""
        between = event.kind == "eval" and event.step < self.cell.train.steps
        self.state = "train" if between else event.kind
        self.step = event.step or self.step
        self.loss = event.values.get("loss", self.loss)
        self.rate = event.values.get("tokens_per_s", self.rate)
        task = self.cell.task
        if "return" in event.values:
            self.score = normalise(task.normaliser, task.name, event.values["return"], task.reference)
        failure = event.record.failure if event.record is not None else None
        self.note = failure.message if failure is not None else event.message


def label(cell: Cell) -> str:
    """A cell's name for people: ``gloma hopper-medium s0``, with its variant; a trial's has no seed."""
    seed = f"s{cell.seed}" if trial(cell.variant) is None else "trial"
    return plain(f"{cell.backbone} {cell.task.name} {seed} {without(cell.variant, TUNE, TRIAL)}")


class RunDisplay:
    """Shows the events of a run. A context manager."""

    def __init__(self, cells: Sequence[Cell], console: Console, refresh: float = 2.0) -> None:
        self.console = console
        self.lines = {cell.key: _Line(cell) for cell in cells}
        self.began = time.monotonic()
        self.drawn = terminal.live(console)
        self.live = Live(console=console, refresh_per_second=refresh, get_renderable=self._table, transient=True)

    def __enter__(self) -> Self:
        if self.drawn:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.drawn:
            self.live.stop()

    def event(self, event: Event) -> None:
        """Take note of one event and, without a terminal, print it."""
        line = self.lines[event.cell.key]
        line.add(event)
        if not self.drawn:
            self._print(line, event)
        elif event.kind in ("failed", "error"):
            say(self.console, f"{event.kind} {label(event.cell)}: {line.note}", "red")

    def _print(self, line: _Line, event: Event) -> None:
        text = f"[{clock(time.monotonic() - self.began)}] {label(line.cell)}: "
        if event.kind == "train":
            part = TRAIN_LINES * line.step // line.cell.train.steps
            if part == line.printed:
                return
            line.printed = part
            text += f"step {line.step}/{line.cell.train.steps}  loss {line.loss:.4f}  {line.rate or 0:,.0f} tokens/s"
            text += f"  ETA {clock(line.eta)}" if line.eta else ""
        elif event.kind == "eval":
            text += f"step {line.step}  score {line.score:.1f}"
        else:
            text += f"{KINDS.get(event.kind, event.kind)}{': ' + line.note if line.note else ''}"
        say(self.console, text)

    def _table(self) -> Table:
        ended = sum(line.state in LAST for line in self.lines.values())
        title = f"{ended}/{len(self.lines)} cells, {clock(time.monotonic() - self.began)}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in ("cell", "state", "step", "loss", "tokens/s", "ETA", "score"):
            table.add_column(name, justify="left" if name in ("cell", "state") else "right", no_wrap=True)
        room = max(5, self.console.height - 4)
        # Running cells first, then those that ended last, then those that wait: a long grid does not fit.
        order = sorted(self.lines.values(), key=lambda line: (line.state in LAST, line.state in ("waiting", "held")))
        for line in order[:room]:
            table.add_row(
                label(line.cell),
                styled(*SHOWN[line.state]),
                f"{line.step}/{line.cell.train.steps}" if line.step else "",
                "" if line.loss is None else f"{line.loss:.4f}",
                "" if line.rate is None else f"{line.rate:,.0f}",
                "" if line.eta is None else clock(line.eta),
                "" if line.score is None else f"{line.score:.1f}",
            )
        if len(order) > room:
            table.add_row(styled(f"and {len(order) - room} more", "dim"))
        return table


def voice(console: Console, errors: Console) -> Voice:
    """How preparing speaks: progress on ``console``, lines and download bars on ``errors``."""
    return Voice(partial(say, errors), partial(progress_of, console=console, what="made"), partial(transfer, errors))


def progress_of(names: Sequence[str], console: Console, what: str) -> Callable[[str], None]:
    """A reporter that prints one line for each of ``names`` when it is ready."""
    began, count = time.monotonic(), iter(range(1, len(names) + 1))

    def report(name: str) -> None:
        say(console, f"{what} {next(count)}/{len(names)} {name} ({clock(time.monotonic() - began)})")

    return report


@contextmanager
def transfer(console: Console, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for one download, on a terminal only; takes bytes done and bytes in all."""
    if not terminal.live(console):
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        one = bar.add_task(plain(name), total=None, visible=False)
        yield lambda done, total: bar.update(one, completed=done, total=total, visible=True)


def clock(seconds: float | None) -> str:
    """``m:ss``."""
    minutes, rest = divmod(int(seconds or 0), 60)
    return f"{minutes}:{rest:02d}"
