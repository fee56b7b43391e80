"""The driver of Slurm's jobs, with Slurm's commands simulated: what it submits, finds again, hears and says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import Event, Job, sbatch, slurm
from backbench.benchmarks.run.executors.slurm import SlurmExecutor
from backbench.benchmarks.run.executors.worker import read_order
from backbench.claims import beating
from backbench.leaderboard.record.files import dump_record

Build = Callable[..., Cell]


class Simulated:
    """Slurm's commands. ``play`` says what each look at the queue sees happen to tasks, one after another."""

    def __init__(self) -> None:
        self.arrays: list[tuple[Path, list[str]]] = []
        self.states: dict[tuple[str, int], str] = {}
        self.asked: list[tuple[str, ...]] = []
        self.play: Callable[[Simulated], None] = lambda slurm: None
        self.refuses = ""

    def __call__(self, *words: str, script: str = "") -> str:
        self.asked.append(words)
        if words[0] == "sbatch" and self.refuses:
            raise sbatch.SlurmError(f"sbatch says: {self.refuses}")
        if words[0] == "sbatch":
            folder = Path(next(word for word in words if word.startswith("--output=")).partition("=")[2]).parent
            keys = json.loads((folder / "keys").read_text(encoding="utf-8"))
            self.arrays.append((folder, keys))
            self.states |= {(folder.name, index): "PENDING" for index in range(len(keys))}
            assert f'{folder}/"$SLURM_ARRAY_TASK_ID".cell' in script.replace("'", "")
            return f"{40 + len(self.arrays)}\n"
        if words[0] == "squeue":
            self.play(self)
            return "".join(f"{name}|41|{index}|{state}\n" for (name, index), state in self.states.items())
        return ""

    def log(self, index: int, *said: dict[str, Any] | str, array: int = 0) -> None:
        folder, keys = self.arrays[array]
        with (folder / f"{index}.log").open("a", encoding="utf-8") as file:
            for one in said:
                file.write(f"{one if isinstance(one, str) else json.dumps({'key': keys[index], **one})}\n")

    def set(self, index: int, state: str, array: int = 0) -> None:
        self.states[self.arrays[array][0].name, index] = state


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulated]:
    found = Simulated()
    monkeypatch.setattr(sbatch, "ask", found)
    monkeypatch.setattr(slurm, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(slurm, "SECOND_THOUGHT", 0.0)
    return found


class Run:
    """A run that has ended: what it said, and what a sink heard."""

    def __init__(self, cells: Sequence[Cell], results: Path, jobs: int = 0, **options: str) -> None:
        self.said: list[str] = []
        self.heard: list[Event] = []
        self.executor = SlurmExecutor(jobs, options, self.said.append)
        self.job = Job(results, "cpu", ("bench", "run"))
        self.outcome = runner.run(cells, self.job, self.executor, [self])

    def event(self, event: Event) -> None:
        self.heard.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.heard]


@pytest.fixture(scope="module")
def recorded(tiny_cell: Build, hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    """A cell with a record, to be copied where a job would have made it."""
    from backbench.benchmarks.run.cell import run_cell

    cell, folder = tiny_cell("identity"), tmp_path_factory.mktemp("recorded")
    run_cell(cell, folder, "cpu", command=["test"])
    return cell, cell.record_path(folder)


def test_a_cell_is_submitted_and_its_log_becomes_events(
    simulated: Simulated, recorded: tuple[Cell, Path], tmp_path: Path
) -> None:
    cell, record = recorded

    def finish(now: Simulated) -> None:
        if now.arrays:
            now.log(0, {"kind": "started"}, {"kind": "train", "step": 5, "values": {"loss": 0.5}}, "a warning", "{")
            now.log(0, {"kind": "train", "step": "many"}, {"kind": "done"})
            shutil.copytree(record.parent, tmp_path / "records")

    simulated.play = finish
    run = Run([cell], tmp_path, jobs=3, time="10", partition="gpu", mem="")
    assert run.kinds == ["started", "train", "done"]
    assert (run.heard[1].step, run.heard[1].values, run.heard[2].record) == (5, {"loss": 0.5}, run.outcome.done[0])
    (submitted,) = [words for words in simulated.asked if words[0] == "sbatch"]
    assert {"--array=0-0%3", "--time=10", "--partition=gpu", "--requeue", "--open-mode=append"} <= set(submitted)
    assert not [word for word in submitted if word.startswith("--mem")]
    folder = simulated.arrays[0][0]
    assert read_order(folder / "0.cell", tmp_path, "cpu")[:2] == (cell, run.job)
    assert run.said == [f"1 cells submitted to Slurm as job 41; their logs are in {folder}"]


@pytest.mark.parametrize(
    ("state", "log", "said"),
    [
        ("TIMEOUT", "stopped", "its job 41_0 reached its time limit; .* longer --time"),
        ("OUT_OF_MEMORY", "train", "needed more memory than it had; give a larger --mem"),
        ("CANCELLED", "stopped", "its job 41_0 was cancelled; the same command resumes"),
        ("FAILED", "started", r"ended without a record \(FAILED\); .*/0.log may say why"),
        ("", "started", "ended without a record; .*/0.log may say why"),
        ("RUNNING", "error", "no such data"),
    ],
)
def test_a_job_that_leaves_no_record_is_one_line(
    simulated: Simulated, tiny_cell: Build, tmp_path: Path, state: str, log: str, said: str
) -> None:
    def end(now: Simulated) -> None:
        if now.arrays:
            now.log(0, {"kind": log, "message": "no such data"})
            now.set(0, state)

    simulated.play = end
    run = Run([cell := tiny_cell()], tmp_path)
    assert run.outcome.status == 1
    (message,) = run.outcome.errors.values()
    assert next(iter(run.outcome.errors)) == cell.key

    assert re.search(said, message), message
    assert len(simulated.arrays) == 1, "it was submitted again"


def test_a_failed_cell_brings_its_record(simulated: Simulated, recorded: tuple[Cell, Path], tmp_path: Path) -> None:
    cell, path = recorded
    from backbench.leaderboard.record.files import load_record
    from backbench.leaderboard.record.schema import Failure

    failure = Failure(type="Diverged", message="loss is not finite", step=3, lr=0.1)
    record = load_record(path).model_copy(update={"status": "failed", "failure": failure, "scores": None, "cost": None})

    def fail(now: Simulated) -> None:
        if now.arrays:
            dump_record(record, files.failure_path(cell, tmp_path))
            now.log(0, {"kind": "failed"})

    simulated.play = fail
    run = Run([cell], tmp_path)
    assert [one.key for one in run.outcome.failed] == [cell.key]


def test_a_run_finds_the_jobs_of_one_that_died(simulated: Simulated, tiny_cell: Build, tmp_path: Path) -> None:
    cells = [tiny_cell(seed=seed) for seed in range(3)]

    def die(now: Simulated) -> None:
        if now.arrays:
            raise KeyboardInterrupt

    simulated.play = die
    with pytest.raises(KeyboardInterrupt):
        Run(cells[:2], tmp_path)

    def end(now: Simulated) -> None:
        for array, (_, keys) in enumerate(now.arrays if len(now.arrays) > 1 else []):
            for index in range(len(keys)):
                now.log(index, {"kind": "error", "message": "enough"}, array=array)

    simulated.play = end
    run = Run(cells, tmp_path)
    assert run.said[0] == "2 cells are in Slurm's queue from before: job 41"
    assert [keys for _, keys in simulated.arrays] == [[cell.key for cell in cells[:2]], [cells[2].key]]
    assert sorted(run.outcome.errors) == sorted(cell.key for cell in cells)


def test_a_job_that_is_queued_again_is_waited_for(
    simulated: Simulated, recorded: tuple[Cell, Path], tmp_path: Path
) -> None:
    cell, record = recorded
    states = iter(["RUNNING", "NODE_FAIL", "PENDING", "PENDING", "RUNNING"])

    def play(now: Simulated) -> None:
        if now.arrays:
            now.set(0, state := next(states, "done"))
            if state == "done":
                shutil.copytree(record.parent, tmp_path / "records")
            now.log(0, {"kind": {"NODE_FAIL": "stopped", "done": "done"}.get(state, "train"), "step": 1})

    simulated.play = play
    run = Run([cell], tmp_path)
    assert (run.kinds[-1], run.outcome.errors, len(simulated.arrays)) == ("done", {}, 1)


def test_a_cell_that_another_process_holds_is_not_submitted(
    simulated: Simulated, tiny_cell: Build, tmp_path: Path
) -> None:
    cell = tiny_cell()
    claim = files.claim(cell, tmp_path)

    def play(now: Simulated) -> None:
        assert not now.arrays or released
        if now.arrays:
            now.log(0, {"kind": "error", "message": "enough"})
        elif len(now.asked) > 3:
            released.append(claim.release())

    released: list[Any] = []
    simulated.play = play
    with beating(claim):
        run = Run([cell], tmp_path)
    assert run.kinds == ["held", "error"]


def test_what_slurm_refuses_is_raised_and_leaves_nothing(
    simulated: Simulated, tiny_cell: Build, tmp_path: Path
) -> None:
    simulated.refuses = "Batch job submission failed: Job violates accounting/QOS policy"
    with pytest.raises(sbatch.SlurmError, match=r"sbatch says: .*QOS policy"):
        Run([tiny_cell()], tmp_path)
    assert list((tmp_path / "slurm").iterdir()) == []


def test_a_full_queue_in_a_run_is_waited_for(
    simulated: Simulated, tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbatch, "ARRAY", 2)
    cells = [tiny_cell(seed=seed) for seed in range(5)]
    original = sbatch.submit

    def submit(*arguments: Any) -> str:
        tries.append(arguments)
        simulated.refuses = "too many jobs" if len(tries) == 2 else ""
        return original(*arguments)

    tries: list[Any] = []

    def end(now: Simulated) -> None:
        for array, (_, keys) in enumerate(now.arrays):
            for index in range(len(keys)):
                now.log(index, {"kind": "error", "message": "enough"}, array=array)

    monkeypatch.setattr(sbatch, "submit", submit)
    simulated.play = end
    run = Run(cells, tmp_path, jobs=1)
    assert any("too many jobs; 4 cells wait" in line for line in run.said)
    assert len(run.outcome.errors) == 5
    assert [len(keys) for _, keys in simulated.arrays] == [1, 2, 2]
    assert tries[-1][-1] == {"dependency": "afterany:42"}, "both arrays would run a cell at a time"


def test_arrays_share_the_limit_and_run_side_by_side(
    simulated: Simulated, tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after another, each would wait for the slowest cell of the one before."""
    monkeypatch.setattr(sbatch, "ARRAY", 2)

    def end(now: Simulated) -> None:
        for array, (_, keys) in enumerate(now.arrays):
            for index in range(len(keys)):
                now.log(index, {"kind": "error", "message": "enough"}, array=array)

    simulated.play = end
    Run([tiny_cell(seed=seed) for seed in range(5)], tmp_path, jobs=5)
    submitted = [words for words in simulated.asked if words[0] == "sbatch"]
    limits = [word for words in submitted for word in words if word.startswith("--array")]
    assert limits == ["--array=0-0%1", "--array=0-1%2", "--array=0-1%2"]
    assert not [word for words in submitted for word in words if "dependency" in word]
