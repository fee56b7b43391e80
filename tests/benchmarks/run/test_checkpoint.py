"""A run that was stopped or killed anywhere, any number of times, ends with the bits of one that was not."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed_runs
import pytest
import torch
from planning import cells

from backbench.benchmarks.cli.run import Where, invoke
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import checkpoint, runner
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.checkpoint import BEST, LAST, STATE, CheckpointError
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.executors import Job
from backbench.benchmarks.run.executors.inline import InlineExecutor
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
        timeout=300,
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
    assert [path.name for path in sorted(cell.checkpoint_folder(tmp_path).iterdir())] == [BEST, LAST]


ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "of another cell": lambda state: state.update(cell="gloma.hopper"),
    "without its generator": lambda state: state.pop("rng"),
    "with losses that are no tensor": lambda state: state.update(pending=5),
    "with more losses than steps": lambda state: state.update(pending=torch.zeros(1).expand(10**12)),
    "with other shapes": lambda state: state.update(agent={k: torch.zeros(3) for k in state["agent"]}),
    "with other moments": lambda state: state["optimizer"][0].update(exp_avg=torch.zeros(3)),
    "with moments of nothing": lambda state: state["optimizer"].update({999: state["optimizer"][0]}),
    "with a step below zero": lambda state: state["progress"].update(step=-1),
    "with a step past the end": lambda state: state["progress"].update(step=10**6),
    "with a text for a step": lambda state: state["progress"].update(step="8"),
    "with NaN seconds": lambda state: state["progress"].update(seconds=float("nan")),
}


@pytest.mark.parametrize("how", ODD)
def test_a_complete_checkpoint_with_odd_values_is_an_error_and_no_result(tmp_path: Path, how: str) -> None:
    path = stopped(tmp_path)
    state = checkpoint.load(path)
    assert state is not None
    ODD[how](state)
    checkpoint.save(path, state)
    refused(tmp_path, path, "is not of this cell")


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_checkpoint_is_an_error_and_no_result(tmp_path: Path, seed: int) -> None:
    """One flipped bit, anywhere, is found."""
    path, draw = stopped(tmp_path), random.Random(seed)
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    refused(tmp_path, path, "does not have the digest")


def code(path: Path) -> None:
    """A class: nothing is unpickled."""
    checkpoint.save(path, {"agent": Path})


def compressed(path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    content = packed.getvalue()
    path.write_bytes(f"backbench checkpoint, sha256 {hashlib.sha256(content).hexdigest()}\n".encode() + content)


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "another program's": lambda path: torch.save({"step": 1}, path),
    "with code": code,
    "that expands": compressed,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_checkpoint_is_an_error_and_no_result(tmp_path: Path, how: str) -> None:
    path = stopped(tmp_path)
    BROKEN[how](path)
    refused(tmp_path, path, "cannot be read")


def stopped(results: Path) -> Path:
    """Stop the cell after its first checkpoints; the newest one."""
    left = iter(range(8))
    with pytest.raises(Interrupted):
        run_cell(killed_runs.the_cell(), results, "cpu", should_stop=lambda: next(left, None) is None)
    return killed_runs.the_cell().checkpoint_folder(results) / "000001" / STATE


def refused(results: Path, path: Path, said: str) -> None:
    """The next run says which checkpoint is wrong, changes nothing of it, and makes no record."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=said) as caught:
        run_cell(killed_runs.the_cell(), results, "cpu")
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == before
    assert list(results.glob("records/*")) == []


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    cell = killed_runs.the_cell()
    with pytest.raises(NotADirectoryError):
        run_cell(cell, tmp_path, "cpu")
    outcome = runner.run([cell], Job(tmp_path, "cpu"), InlineExecutor())
    assert re.fullmatch(r"cannot write .*choose another --out", outcome.errors[cell.key])
    assert not cell.record_path(tmp_path).exists()


BENCH = str(Path(sys.executable).with_name("bench"))
WORDS = [
    "run", "--backbone", "identity", "--preset", "smoke", "--task", "hopper-medium", "--track", "none",
    "train.steps=400", "train.checkpoint_every=11",
]  # fmt: skip


def the_cell() -> Cell:
    (cell,) = cells(["identity"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=WORDS[-2:])
    return cell


def states(home: Path) -> dict[str, int]:
    """Every checkpoint and when it was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in home.glob("*/state.pt")}


def interrupted(folder: Path, number: signal.Signals) -> int:
    """Start the command, send a signal once it has written a checkpoint of its own; the exit status."""
    home = the_cell().checkpoint_folder(folder / "results")
    before = states(home)
    process = subprocess.Popen(
        [BENCH, *WORDS], cwd=folder, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 240
    while not set(states(home).items()) - set(before.items()):
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A terminal's Ctrl-C and kill -9 reach the whole group; a scheduler's SIGTERM the command alone.
    (os.kill if number == signal.SIGTERM else os.killpg)(process.pid, number)
    out, _ = process.communicate(timeout=240)
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
        assert states(cell.checkpoint_folder(results))
        assert not cell.record_path(results).exists()

    done = subprocess.run([BENCH, *WORDS], cwd=tmp_path, capture_output=True, text=True, timeout=300)
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
