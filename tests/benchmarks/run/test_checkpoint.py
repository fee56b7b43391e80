"""A run that was stopped or killed anywhere, any number of times, ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import killed_runs
import pytest
import torch
from planning import cells

from backbench.benchmarks.cli.run import Where, invoke
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import checkpoint
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.checkpoint import CheckpointError
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.leaderboard.record.files import load_record
from backbench.leaderboard.record.schema import Record

pytestmark = pytest.mark.usefixtures("hopper_store")


def bits(record: Record) -> tuple[Any, ...]:
    assert record.scores is not None
    return record.provenance.weights_sha256, record.scores.model_dump(), record.curve.model_dump()


@pytest.fixture(scope="module")
def undisturbed(hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return bits(run_cell(killed_runs.the_cell(), tmp_path_factory.mktemp("whole"), "cpu", command=["test"]))


@pytest.mark.parametrize(("way", "died", "resumed"), [("anywhere", 2, 0), ("writing", 8, 5)])
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: tuple[Any, ...], way: str, died: int, resumed: int
) -> None:
    done = subprocess.run(
        [sys.executable, killed_runs.__file__, str(tmp_path / "results"), way],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["died"] >= died, seen
    assert seen["resumed"] >= resumed, seen
    record = load_record(killed_runs.the_cell().record_path(tmp_path / "results"))
    assert bits(record) == undisturbed
    assert len(list((tmp_path / "results" / "records").glob("*.json"))) == 1


def test_a_run_stopped_often_ends_with_the_bits_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: tuple[Any, ...]
) -> None:
    """Also in the middle of an evaluation."""
    cell = killed_runs.the_cell()
    stops = 0
    for allowed in [1, 1, 2, 3, 14, 5, 4, 30, 12, 3, 1, 10_000]:
        left = iter(range(allowed))
        try:
            record = run_cell(cell, tmp_path, "cpu", should_stop=lambda left=left: next(left, None) is None)
        except Interrupted:
            stops += 1
            assert not cell.record_path(tmp_path).exists()
    assert stops == 11
    assert bits(record) == undisturbed
    assert not (cell.checkpoint_folder(tmp_path) / "state.pt").exists()


def broken(name: str, path: Path) -> str:
    """Break a checkpoint; return what the error says."""
    content = path.read_bytes()
    if name == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "garbage":
        path.write_bytes(b"no checkpoint " * 100)
    elif name == "code":
        torch.save({"agent": Path}, path)  # a class: nothing is unpickled
    elif name == "list":
        torch.save([1], path)
        return "does not hold a training state"
    elif name == "incomplete":
        state = torch.load(path)
        del state["rng"]
        torch.save(state, path)
        return "not of this cell"
    elif name == "odd":
        torch.save(torch.load(path) | {"pending": 5, "optimizer": 3}, path)
        return "not of this cell"
    else:
        state = torch.load(path)
        state["agent"] = {k: torch.cat([v, v]) if v.dim() else v for k, v in state["agent"].items()}
        torch.save(state, path)
        return "not of this cell"
    return "cannot be read"


@pytest.mark.parametrize("how", ["truncated", "empty", "garbage", "code", "list", "incomplete", "odd", "shapes"])
def test_a_broken_checkpoint_is_named_and_kept(tmp_path: Path, how: str) -> None:
    cell = killed_runs.the_cell()
    left = iter(range(8))
    with pytest.raises(Interrupted):
        run_cell(cell, tmp_path, "cpu", should_stop=lambda: next(left, None) is None)
    path = cell.checkpoint_folder(tmp_path) / "state.pt"
    said = broken(how, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=said) as caught:
        run_cell(cell, tmp_path, "cpu")
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == before
    assert not cell.record_path(tmp_path).exists()


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    cell = killed_runs.the_cell()
    with pytest.raises(CheckpointError, match=r"cannot write .*choose another --out"):
        run_cell(cell, tmp_path, "cpu")
    assert not cell.record_path(tmp_path).exists()


BENCH = str(Path(sys.executable).with_name("bench"))
WORDS = [
    "run", "--backbone", "identity", "--preset", "smoke", "--task", "hopper-medium", "--track", "none",
    "train.steps=400", "train.checkpoint_every=11",
]  # fmt: skip


def the_cell() -> Cell:
    (cell,) = cells(["identity"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=WORDS[-2:])
    return cell


def interrupted(folder: Path, number: signal.Signals) -> int:
    """Start the command, send a signal once it has written a checkpoint of its own; the exit status."""
    state = the_cell().checkpoint_folder(folder / "results") / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = subprocess.Popen(
        [BENCH, *WORDS], cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 60
    while not (state.exists() and state.stat().st_mtime_ns != before):
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A terminal's Ctrl-C and kill -9 reach the whole group; a scheduler's SIGTERM the command alone.
    (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
    out, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert b"run the same command again to resume" in out, out.decode()
        assert b"Traceback" not in out, out.decode()
    return process.returncode


@pytest.mark.parametrize(
    "signals",
    [
        {signal.SIGTERM: 143, signal.SIGINT: 130},
        # The worker alone, much faster, is above.
        pytest.param({signal.SIGKILL: -9}, marks=pytest.mark.slow),
    ],
)
def test_the_same_command_resumes_an_interrupted_run(
    signals: dict[signal.Signals, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cell = the_cell()
    results = tmp_path / "results"
    expected = bits(run_cell(cell, tmp_path / "whole", "cpu"))
    for number, code in signals.items():
        assert interrupted(tmp_path, number) == code
        assert (cell.checkpoint_folder(results) / "state.pt").is_file()
        assert not cell.record_path(results).exists()

    done = subprocess.run([BENCH, *WORDS], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert bits(load_record(cell.record_path(results))) == expected

    # Once more: nothing is left to do, and no file changes.
    files = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in results.rglob("*") if p.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("backbench.benchmarks.run.runner.run", None)
    request = Request(("identity",), preset="smoke", tasks=("hopper-medium",), overrides=tuple(WORDS[-2:]))
    assert invoke(request, Where()) == 0
    assert "identity" in capsys.readouterr().out
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in results.rglob("*") if p.is_file()} == files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "whole"], "a stray file in the working folder"


def test_two_processes_do_not_train_one_cell(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    with (
        checkpoint.claimed(folder),
        pytest.raises(CheckpointError, match="another process is at work"),
        checkpoint.claimed(folder),
    ):
        pass
    (folder / ".state.pt.123.tmp").write_text("half")
    with checkpoint.claimed(folder):
        assert not (folder / ".state.pt.123.tmp").exists()
