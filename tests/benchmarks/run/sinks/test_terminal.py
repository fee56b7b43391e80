"""What a log shows of a run: about ten lines a cell, with everything that matters."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Event
from backbench.benchmarks.run.sinks.terminal import RunDisplay
from backbench.terminal import console

Build = Callable[..., Cell]


def events(cell: Cell) -> Iterator[Event]:
    """Those of a cell that reports every 25 updates, with one evaluation in the middle."""
    steps = cell.train.steps
    yield Event(cell, "started")
    for step in range(25, steps + 1, 25):
        yield Event(cell, "train", step, {"loss": 1 / step, "lr": 1e-3, "tokens_per_s": 1000.0})
        if step == steps // 2:
            yield Event(cell, "eval", step, {"return": 100.0})
    yield Event(cell, "evaluating", steps)
    yield Event(cell, "eval", steps, {"return": 200.0})
    yield Event(cell, "done")


def log_of(cells: list[Cell], more: list[Event]) -> list[str]:
    out = io.StringIO()
    with RunDisplay(cells, console(file=out, width=80)) as display:
        for event in more:
            display.event(event)
    return out.getvalue().splitlines()


def test_a_log_has_about_ten_lines_a_cell(tiny_cell: Build) -> None:
    cells = [tiny_cell("mlp", train__steps=2000, seed=seed) for seed in range(3)]
    lines = log_of(cells, [event for cell in cells for event in events(cell)])
    assert 8 * len(cells) <= len(lines) <= 12 * len(cells)
    first = [line for line in lines if " s0:" in line]
    assert "started" in first[0]
    assert first[-1].endswith("done")
    assert sum("loss" in line for line in first) == 6
    assert any("step 2000/2000" in line for line in first), "the end of training is not shown"
    assert sum("score" in line for line in first) == 2


def test_colour_in_a_log_adds_no_lines(tiny_cell: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [tiny_cell("mlp", train__steps=2000, seed=seed) for seed in range(9)]
    every = [event for cell in cells for event in events(cell)]
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.setenv(variable, "1")
        assert 8 * len(cells) <= len(log_of(cells, every)) <= 12 * len(cells)


def test_text_from_outside_is_not_markup(tiny_cell: Build) -> None:
    cell = tiny_cell("mlp")
    (line,) = log_of([cell], [Event(cell, "error", message="[/red] :dragon: [bold]")])
    assert line.endswith("error: [/red] :dragon: [bold]")
