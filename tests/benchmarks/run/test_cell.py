"""A cell that fails is recorded with its reason, and the others continue."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planted_backbones
import pytest
from paths import HELPERS

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.compose import check_models
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.results import failure_path, finished
from backbench.benchmarks.run.train import learning_rate
from backbench.errors import UserError
from backbench.leaderboard.record.files import load_record

pytestmark = pytest.mark.usefixtures("hopper_store")
Build = Callable[..., Cell]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("NotANumber", "Diverged", "loss is not finite at step 8"),
        ("NotANumberActing", "FloatingPointError", "actions are not finite"),
        ("Raises", "RuntimeError", "the fifth update is one too many"),
        ("RaisesWhenBuilt", "ZeroDivisionError", "no such width"),
        ("RaisesSilently", "AssertionError", "AssertionError"),
        ("WrongShape", "RuntimeError", "size"),
        ("NegativeCost", "ValidationError", "flops_per_token"),
        ("SeesTheFuture", "BrokenContract", "the future leaks at"),
        ("SeesOtherRows", "BrokenContract", "batch independence: each row"),
    ],
)
def test_what_a_backbone_raises_is_recorded(
    tiny_cell: Build, tmp_path: Path, name: str, kind: str, message: str
) -> None:
    cell = tiny_cell(f"planted_backbones:{name}")
    check_models([cell])  # no model is refused beforehand for another error than a user's
    record = run_cell(cell, tmp_path, "cpu")
    assert record == load_record(failure_path(cell, tmp_path))
    assert record.status == "failed"
    assert record.failure is not None
    assert record.failure.type == kind
    assert message in record.failure.message
    assert "\n" not in record.failure.message
    assert record.scores is None
    diverged = kind == "Diverged"
    assert record.failure.step == (8 if diverged else None)
    assert record.failure.lr == (learning_rate(7, cell.train) if diverged else None)
    assert finished(cell, tmp_path) is None, "a failed cell is tried again"


@pytest.mark.parametrize(
    ("name", "known", "estimated"),
    [("GRU", True, False), ("FusedAttention", False, False), ("MambapyBlock", True, True)],
)
def test_the_record_says_whether_flops_are_known_or_estimated(
    tiny_cell: Build, tmp_path: Path, name: str, known: bool, estimated: bool
) -> None:
    record = run_cell(tiny_cell(f"mixers:{name}", train__steps=3), tmp_path, "cpu")
    assert record.cost is not None, record.failure
    assert (record.cost.flops_per_token is not None, record.cost.flops_estimated) == (known, estimated)
    assert load_record(tmp_path / "records" / f"{record.key}.json") == record


def test_a_learning_rate_that_is_too_high_diverges(tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("mlp", train__lr=1e30, train__clip=0.0, train__warmup=0)
    record = run_cell(cell, tmp_path, "cpu")
    assert record.failure is not None
    assert record.failure.type == "Diverged"
    assert record.failure.step is not None
    assert 1 < record.failure.step <= cell.train.steps
    assert record.failure.lr == 1e30


def test_a_success_replaces_a_failure(tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = tiny_cell("planted_backbones:Raises")
    assert run_cell(cell, tmp_path, "cpu").status == "failed"
    monkeypatch.setattr(planted_backbones.Raises, "forward", planted_backbones.Sound.forward)
    assert run_cell(cell, tmp_path, "cpu").status == "done"
    assert finished(cell, tmp_path) is not None
    assert not failure_path(cell, tmp_path).exists()


def test_a_backbone_that_cannot_be_built_on_the_meta_device_still_runs(tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("planted_backbones:ReadsItsWeights")
    check_models([cell])
    assert run_cell(cell, tmp_path, "cpu").status == "done"


def test_missing_data_leave_no_record(tiny_cell: Build, tmp_path: Path, new_store: Path) -> None:
    cell = tiny_cell()
    with pytest.raises(DataError, match="bench data make"):
        run_cell(cell, tmp_path / "results", "cpu")
    assert not (tmp_path / "results").exists()


def test_data_that_no_record_can_contain_are_refused_before_training(
    tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = Trajectories.summary
    monkeypatch.setattr(Trajectories, "summary", lambda data: {**summary(data), "return_max": 1e13})
    with pytest.raises(
        UserError, match=r"hopper-medium.*return_max 10000000000000.0: .*less than or equal to 1000000000000"
    ):
        run_cell(tiny_cell("mlp"), tmp_path, "cpu")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_other_cells_continue(bench: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command: one raises, one exits, one is killed, one is sound."""
    names = ["Raises", "Exits", "KilledWhileTraining", "Sound"]
    done = bench(
        "run", "--backbone", ",".join(f"planted_backbones:{name}" for name in names), "--preset", "smoke",
        "--task", "hopper-medium", "--track", "none", "--jobs", "2", "eval.episodes=1", "eval.max_steps=5",
        PYTHONPATH=str(HELPERS),
    )  # fmt: skip
    assert done.code == 1, done.err
    assert "the fifth update is one too many" in done.out
    assert "the process died with exit status 0" in done.out
    assert "the process died with signal SIGKILL" in done.out
    assert "Traceback" not in done.err
    records = [json.loads(p.read_text()) for p in (tmp_path / "results" / "records").glob("*.json")]
    status = {r["identity"]["backbone"].partition(":")[2]: r["status"] for r in records}
    assert status == {"Raises": "failed", "Sound": "done"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results"]
