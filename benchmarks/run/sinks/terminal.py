"""What a run shows while it goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from backbench.benchmarks.plan.settings import Cell
from backbench.leaderboard.scores.normalise import normalise

SHOWN = {
    "waiting": "[dim]waiting[/]", "started": "starting", "train": "training", "evaluating": "evaluating",
    "eval": "evaluating", "done": "[green]done[/]", "failed": "[red]failed[/]", "error": "[red]error[/]",
    "stopped": "[yellow]stopped[/]",
}  # fmt: skip


@dataclass
class _Line:
    """What is known of one cell."""

    cell: Cell
    state: str = "waiting"
    step: int = 0
    loss: float | None = None
    rate: float | None = None
    score: float | None = None
    note: str = ""

    @property
    def eta(self) -> float | None:
        """Seconds of training left."""
        if self.state != "train" or not self.rate:
            return None
        # Three tokens a step: agents.tokenizer has the constant, and would bring torch in.
        tokens = (self.cell.train.steps - self.step) * self.cell.train.batch_size * self.cell.model.context * 3
        return tokens / self.rate


def label(cell: Cell) -> str:
    """A cell's name for people: ``gloma hopper-medium s0``, with its variant."""
    return f"{cell.backbone} {cell.task.name} s{cell.seed} {cell.variant}".rstrip()


class RunDisplay:
    """Receives the events of ``grid.run_cells`` and shows them. A context manager."""

    def __init__(self, cells: Sequence[Cell], console: Console, refresh: float = 2.0) -> None:
        self.console = console
        self.lines = {cell.key: _Line(cell) for cell in cells}
        self.began = time.monotonic()
        self.live = Live(console=console, refresh_per_second=refresh, get_renderable=self._table, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def event(self, cell: Cell, event: dict[str, Any]) -> None:
        """Take note of one event and, without a terminal, print it."""
        line = self.lines[cell.key]
        kind = event["kind"]
        line.state = kind if not (kind == "eval" and event["step"] < cell.train.steps) else "train"
        line.step = event.get("step", line.step)
        line.loss = event.get("loss", line.loss)
        line.rate = event.get("tokens_per_s", line.rate)
        if "return" in event:
            line.score = normalise(cell.task.normaliser, cell.task.name, event["return"], cell.task.reference)
        line.note = event.get("message", line.note)
        if self.console.is_terminal:
            if kind in ("failed", "error"):
                self.console.print(f"[red]{kind}[/] {escape(label(cell))}: {escape(line.note)}")
        else:
            self._print(line, kind)

    def _print(self, line: _Line, kind: str) -> None:
        text = f"[{_clock(time.monotonic() - self.began)}] {label(line.cell)}: "
        if kind == "train":
            text += f"step {line.step}/{line.cell.train.steps}  loss {line.loss:.4f}  {line.rate or 0:,.0f} tokens/s"
            text += f"  ETA {_clock(line.eta)}" if line.eta else ""
        elif kind == "eval":
            text += f"step {line.step}  score {line.score:.1f}"
        else:
            text += f"{kind}{': ' + line.note if line.note else ''}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        ended = sum(line.state in ("done", "failed", "error") for line in self.lines.values())
        title = f"{ended}/{len(self.lines)} cells, {_clock(time.monotonic() - self.began)}"
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in ("cell", "state", "step", "loss", "tokens/s", "ETA", "score"):
            table.add_column(name, justify="left" if name in ("cell", "state") else "right", no_wrap=True)
        room = max(5, self.console.height - 4)
        # What runs comes first, then what ended last, then what waits: a long grid does not fit.
        order = sorted(
            self.lines.values(), key=lambda line: (line.state in ("done", "failed"), line.state == "waiting")
        )
        for line in order[:room]:
            table.add_row(
                escape(label(line.cell)),
                SHOWN[line.state],
                f"{line.step}/{line.cell.train.steps}" if line.step else "",
                "" if line.loss is None else f"{line.loss:.4f}",
                "" if line.rate is None else f"{line.rate:,.0f}",
                "" if line.eta is None else _clock(line.eta),
                "" if line.score is None else f"{line.score:.1f}",
            )
        if len(order) > room:
            table.add_row(f"[dim]and {len(order) - room} more[/]")
        return table


def progress_of(names: Sequence[str], console: Console, what: str) -> Callable[[str], None]:
    """A reporter that prints one line for each of ``names`` as it is done."""
    began, count = time.monotonic(), iter(range(1, len(names) + 1))

    def report(name: str) -> None:
        console.print(
            f"{what} {next(count)}/{len(names)} {name} ({_clock(time.monotonic() - began)})",
            markup=False,
            highlight=False,
        )

    return report


@contextmanager
def transfer(console: Console, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for one download, while it lasts and where there is a terminal; takes bytes done and bytes in all."""
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        one = bar.add_task(escape(name), total=None, visible=False)
        yield lambda done, total: bar.update(one, completed=done, total=total, visible=True)


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(int(seconds or 0), 60)
    return f"{minutes}:{rest:02d}"
