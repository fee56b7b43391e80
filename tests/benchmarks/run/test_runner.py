"""The seam between plan, runner, executors and sinks."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import LAST, Emit, Event, Job
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.benchmarks.run.executors.local import LocalExecutor
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record, load_record

Build = Callable[..., Cell]
SILENT = runner.Voice(lambda line: None, lambda names: lambda name: None, lambda name: pytest.fail("a download"))


class Heard:
    """A sink that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self, cell: Cell) -> list[str]:
        return [event.kind for event in self.events if event.cell == cell]


def grid(tiny_cell: Build) -> list[Cell]:
    return [tiny_cell(name, seed=seed) for name in ("identity", "mlp") for seed in (0, 1)]


def test_a_grid_runs_on_an_executor_in_this_process(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cells, heard = grid(tiny_cell), Heard()
    runner.prepare(cells, tmp_path, SILENT)
    outcome = runner.run(cells, Job(tmp_path, "cpu", ("a test",)), InlineExecutor(), [heard])
    assert (len(outcome.done), outcome.failed, outcome.errors, outcome.status) == (4, [], {}, 0)
    for cell in cells:
        kinds = heard.kinds(cell)
        assert (kinds[0], kinds[-1]) == ("started", "done")
        assert {"train", "eval", "evaluating"} <= set(kinds)
        assert sum(kind in LAST for kind in kinds) == 1
        # The event carries the record that the file has.
        (last,) = [event for event in heard.events if event.cell == cell and event.kind == "done"]
        assert last.record == load_record(cell.record_path(tmp_path))
    assert runner.remaining(cells, tmp_path) == []


def test_both_executors_make_the_same_bits(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cells = [tiny_cell("mlp", seed=seed) for seed in (3, 4)]
    made = {}
    for name, executor in (("inline", InlineExecutor()), ("local", LocalExecutor(2))):
        outcome = runner.run(cells, Job(tmp_path / name, "cpu"), executor)
        made[name] = {record.key: record.provenance.weights_sha256 for record in outcome.done}
    assert len(made["inline"]) == 2
    assert made["inline"] == made["local"]


def test_an_executor_of_ones_own_is_enough(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    class Lazy:
        """Runs nothing: every cell is lost on the way."""

        def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
            for cell in cells:
                emit(Event(cell, "started"))
                emit(Event(cell, "error", message="the machine is gone"))

        def stop(self) -> None:
            raise AssertionError("nobody asked")

    cells = grid(tiny_cell)
    outcome = runner.run(cells, Job(tmp_path), Lazy())
    assert outcome.errors == {cell.key: "the machine is gone" for cell in cells}
    assert outcome.status == 1
    assert runner.remaining(cells, tmp_path) == cells


def test_a_stop_signal_ends_the_grid_and_the_rest_resumes(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cells, before = grid(tiny_cell), signal.getsignal(signal.SIGTERM)

    class StopAtOnce(Heard):
        def event(self, event: Event) -> None:
            super().event(event)
            if event.kind == "train" and not any(e.kind == "stopped" for e in self.events):
                os.kill(os.getpid(), signal.SIGTERM)

    heard = StopAtOnce()
    outcome = runner.run(cells, Job(tmp_path, "cpu"), InlineExecutor(), [heard])
    assert (outcome.stopped, outcome.status, outcome.done) == (signal.SIGTERM, 143, [])
    assert heard.kinds(cells[0])[-1] == "stopped"
    assert heard.kinds(cells[1]) == [], "another cell was started"
    assert signal.getsignal(signal.SIGTERM) == before
    outcome = runner.run(cells, Job(tmp_path, "cpu"), InlineExecutor())
    assert len(outcome.done) == 4


def test_no_cells_and_no_main_thread_are_no_trouble(tmp_path: Path) -> None:
    outcome = runner.run([], Job(tmp_path, "cpu"), LocalExecutor(1))
    assert (outcome.done, outcome.failed, outcome.errors, outcome.stopped) == ([], [], {}, 0)
    assert multiprocessing.active_children() == []


def test_a_failed_cell_is_recorded_and_the_next_one_runs(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cells = [tiny_cell("planted_backbones:Raises"), tiny_cell("identity")]
    heard = Heard()
    outcome = runner.run(cells, Job(tmp_path, "cpu"), InlineExecutor(), [heard])
    assert [record.status for record in (*outcome.failed, *outcome.done)] == ["failed", "done"]
    assert outcome.status == 1
    assert heard.kinds(cells[0])[-1] == "failed"
    assert runner.remaining(cells, tmp_path) == cells[:1], "a failed cell is tried again"


def test_a_record_of_other_data_is_not_passed_over(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cell = tiny_cell("identity")
    runner.run([cell], Job(tmp_path, "cpu"), InlineExecutor())
    record = load_record(cell.record_path(tmp_path))
    assert record.identity.data is not None
    data = record.identity.data.model_copy(update={"sha256": "0" * 64})
    identity = record.identity.model_copy(update={"data": data})
    dump_record(record.model_copy(update={"identity": identity}), cell.record_path(tmp_path))
    with pytest.raises(UserError, match="was run on other data"):
        runner.remaining([cell], tmp_path)


def test_preparing_refuses_a_model_that_cannot_be_built(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cell = tiny_cell("transformer", options={"n_heads": 3})
    with pytest.raises(UserError, match="n_heads"):
        runner.prepare([cell], tmp_path / "results", SILENT)
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_data_are_made(
    tiny_cell: Build, new_store: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    task: Any = tiny_cell("identity").task
    cell = replace(tiny_cell("identity"), task=task)
    with pytest.raises(UserError, match="cannot write to"):
        runner.prepare([cell], tmp_path / "taken" / "results", SILENT)
    assert not new_store.exists() or list(new_store.iterdir()) == []


def test_a_data_set_that_cannot_be_read_is_refused_before_anything_is_written(
    tiny_cell: Build, hopper_store: Path, new_store: Path, tmp_path: Path
) -> None:
    cell = tiny_cell("identity")
    shutil.copytree(hopper_store / cell.task.data_id, new_store / cell.task.data_id)
    for path in (new_store / cell.task.data_id).rglob("*.hdf5"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=re.escape(cell.task.data_id)):
        runner.prepare([cell], tmp_path / "results", SILENT)
    assert not (tmp_path / "results").exists()


def test_columns_that_do_not_vary_are_said_once(
    tiny_cell: Build, hopper_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trajectories, "still_columns", [4])
    said: list[str] = []
    runner.prepare(grid(tiny_cell), tmp_path, replace(SILENT, say=said.append))
    (line,) = said
    assert "state column 4 does not vary, so the scale is 1" in line
