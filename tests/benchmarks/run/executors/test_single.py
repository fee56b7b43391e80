"""``python -m backbench.run_cell``: a cell in, a record and an exit status out."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run.executors import Job, order, single
from backbench.benchmarks.run.executors.worker import STOP_SIGNALS
from backbench.claims import beating
from backbench.leaderboard.record.files import load_record

Build = Callable[..., Cell]
Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(tmp_path: Path, hopper_store: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a cell as the module does; the exit status, the events and standard error."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    kept = sys.dont_write_bytecode

    def call(cell: Cell, *words: str, job: Job | None = None) -> tuple[int, list[dict[str, Any]], str]:
        (path := tmp_path / "cell.json").write_text(order(cell, job or Job(tmp_path)), encoding="utf-8")
        status = single.main([str(path), "--results", str(tmp_path / "results"), "--device", "cpu", *words])
        said = capsys.readouterr()
        return status, [json.loads(line) for line in said.out.splitlines()], said.err

    yield call
    sys.dont_write_bytecode = kept
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_cell_becomes_a_record_and_events_are_lines_of_json(run: Run, tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("mlp")
    status, events, errors = run(cell, job=Job(tmp_path, command=("bench", "run", "--out", "a b")))
    assert (status, errors) == (0, "")
    kinds = [event["kind"] for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "done")
    assert {event["key"] for event in events} == {cell.key}
    (line,) = [event for event in events if event["kind"] == "train" and event["step"] == 30]
    assert line["values"]["loss"] > 0
    record = load_record(cell.record_path(tmp_path / "results"))
    assert (record.status, record.provenance.command) == ("done", "bench run --out 'a b'")
    assert run(cell)[:2] == (0, [{"key": cell.key, "kind": "taken"}]), "it was trained again"


def test_a_failed_cell_is_1_and_the_record_says_why(run: Run, tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("planted_backbones:Raises")
    status, events, _ = run(cell)
    assert (status, events[-1]["kind"]) == (1, "failed")
    assert load_record(files.failure_path(cell, tmp_path / "results")).status == "failed"


def test_other_data_than_those_of_the_order_are_2_and_one_line(
    run: Run, tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tiny_cell("mlp")
    told = json.loads(order(cell, Job(tmp_path)))
    assert len(told["data"]) == 64
    (path := tmp_path / "other.json").write_text(json.dumps(told | {"data": "0" * 64}), encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.order", lambda *_: path.read_text(encoding="utf-8"))
    status, events, errors = run(cell)
    assert (status, events, errors.count("\n")) == (2, [], 1)
    assert "and the run was started with 000000000000; remove it there" in errors
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("change", [{"backbone": "no_such"}, {"eval__targets": (), "task": None}])
def test_a_mistake_is_2_and_one_line(run: Run, tiny_cell: Build, tmp_path: Path, change: dict[str, Any]) -> None:
    if "task" in change:
        (tmp_path / "cell.json").write_text("[", encoding="utf-8")
        assert single.main([str(tmp_path / "cell.json")]) == 2
        return
    status, events, errors = run(tiny_cell(**change))
    assert (status, events[-1]["kind"], errors.count("\n")) == (2, "error", 1)
    assert "unknown backbone 'no_such'" in errors
    assert events[-1]["message"] in errors


def test_a_cell_that_another_process_holds_is_75(run: Run, tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("identity")
    with beating(files.claim(cell, tmp_path / "results")):
        status, events, _ = run(cell, "--patience", "0.1")
    assert (status, [event["kind"] for event in events]) == (75, ["held"])
    assert "process" in events[0]["message"]
    assert run(cell, "--patience", "5")[0] == 0, "a claim that is free is taken"


def test_a_stopped_cell_is_143_and_resumes_to_equal_bits(
    run: Run, tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, line = tiny_cell("mlp", seed=2), single.terminal.line
    assert run(cell)[0] == 0
    whole = load_record(cell.record_path(tmp_path / "results")).provenance.weights_sha256
    cell.record_path(tmp_path / "results").unlink()

    def stop_in_training(text: str, error: bool = False) -> None:
        line(text, error)
        if '"step": 10' in text:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(single.terminal, "line", stop_in_training)
    status, events, _ = run(cell)
    assert (status, events[-1]["kind"]) == (143, "stopped")
    assert not cell.record_path(tmp_path / "results").exists()
    monkeypatch.undo()
    status, events, _ = run(cell)
    assert status == 0
    assert next(event["step"] for event in events if event["kind"] == "train") > 10, "it started over"
    assert load_record(cell.record_path(tmp_path / "results")).provenance.weights_sha256 == whole


def test_the_module_is_started_and_never_imported(tmp_path: Path) -> None:
    """And it keeps bytecode where the environment forbids that: each cell would compile torch again."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path / "kept")}
    words = [sys.executable, "-m", "backbench.run_cell", str(tmp_path / "none.json")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"run_cell: {tmp_path / 'none.json'} cannot be read: No such file or directory\n"
    assert list(tmp_path.rglob("queue.*.pyc"))
    with pytest.raises(ImportError, match="python -m"):
        importlib.import_module("backbench.run_cell")
