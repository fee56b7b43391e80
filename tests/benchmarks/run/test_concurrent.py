"""Runs that share a folder of results: each cell is trained once, and all runs end with all records."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import concurrent_runs
import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.executors import Event, Job
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.claims import Held, beating
from backbench.errors import UserError
from backbench.leaderboard.record.files import load_record, load_records
from backbench.text import SQLITE, path_url

pytestmark = pytest.mark.usefixtures("hopper_store")


def together(results: Path, runs: int, kills: int, seed: int = 0) -> dict[str, Any]:
    words = [str(results), str(runs), str(kills), str(seed)]
    done = subprocess.run(
        [sys.executable, concurrent_runs.__file__, *words], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def alone(hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The digests of the weights of an undisturbed run."""
    folder = tmp_path_factory.mktemp("alone")
    outcome = runner.run(concurrent_runs.the_cells(), Job(folder, "cpu"), InlineExecutor())
    return {record.key: record.provenance.weights_sha256 for record in outcome.done}


@pytest.mark.parametrize("runs", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_runs_together_train_each_cell_once(tmp_path: Path, alone: dict[str, Any], runs: int) -> None:
    said = together(tmp_path / "results", runs=runs, kills=0)
    assert len(said) == runs
    for run in said.values():
        assert (run["status"], run["records"], run["error"]) == (0, 4, [])
        assert sorted(run["done"] + run["taken"]) == sorted(alone)
    for kind in ("started", "done"):
        assert sorted(key for run in said.values() for key in run[kind]) == sorted(alone), kind
    same_as(tmp_path / "results", alone)


@pytest.mark.parametrize(("runs", "kills"), [(3, 2), pytest.param(8, 5, marks=pytest.mark.slow)])
def test_what_killed_runs_held_is_finished_by_the_others(
    tmp_path: Path, alone: dict[str, Any], runs: int, kills: int
) -> None:
    said = together(tmp_path / "results", runs=runs, kills=kills, seed=3)
    assert len(said) >= runs - kills
    for run in said.values():
        assert (run["status"], run["records"], run["error"]) == (0, 4, [])
    files.tidy(concurrent_runs.the_cells(), tmp_path / "results")
    same_as(tmp_path / "results", alone)


def same_as(results: Path, digests: dict[str, Any]) -> None:
    """The folder has these records, their weights, and nothing else."""
    kept = ("best.safetensors", "last.safetensors")
    expected = [f"records/{key}.json" for key in digests]
    expected += [f"checkpoints/{key}/{name}" for key in digests for name in kept]
    there = [path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()]
    assert sorted(there) == sorted(expected)
    for key, digest in digests.items():
        assert load_record(results / "records" / f"{key}.json").provenance.weights_sha256 == digest
        assert files.digest_in(results / "checkpoints" / key / "last.safetensors") == digest


def the_cell() -> Cell:
    return concurrent_runs.the_cells()[0]


def test_a_cell_that_another_process_holds_is_not_run(tmp_path: Path) -> None:
    with beating(files.claim(the_cell(), tmp_path)):
        with pytest.raises(UserError, match=r"process \d+ on .* runs transformer.*; let it finish, or end it"):
            run_cell(the_cell(), tmp_path, "cpu")
        with pytest.raises(Held):
            files.claim(the_cell(), tmp_path)
    assert list(tmp_path.rglob("*.json")) == []


def test_a_run_waits_for_what_another_process_holds_and_says_so(tmp_path: Path) -> None:
    """Until the other one releases it without a record: then it is this one's."""
    claim, heard = files.claim(the_cell(), tmp_path), list[Event]()

    class LetGo:
        def event(self, event: Event) -> None:
            heard.append(event)
            if event.kind == "held":
                claim.release()

    outcome = runner.run([the_cell()], Job(tmp_path, "cpu"), InlineExecutor(), [LetGo()])
    assert [event.kind for event in heard][:2] == ["held", "started"]
    assert "runs it; waiting for the record" in heard[0].message
    assert len(outcome.done) == 1


def test_the_record_that_is_there_first_stays(tmp_path: Path) -> None:
    """A run that lost its claim without notice ends with the other's record, and changes nothing."""
    cell, other = the_cell(), tmp_path / "other"
    first = run_cell(cell, other, "cpu", command=["the first"])

    def be_late(said: dict[str, Any]) -> None:
        if said["kind"] == "evaluating":
            files.create_record(first, cell.record_path(tmp_path))

    assert run_cell(cell, tmp_path, "cpu", be_late, command=["the second"]) == first
    assert load_record(cell.record_path(tmp_path)).provenance.command == "'the first'"


def test_a_run_stops_when_another_process_took_its_cell(tmp_path: Path) -> None:
    """It happens to a process that slept longer than a claim lives."""
    cell, heard = the_cell(), list[str]()

    class Taken:
        def event(self, event: Event) -> None:
            heard.append(event.kind)
            if heard.count("train") == 3 and event.kind == "train":
                (newer := cell.checkpoint_folder(tmp_path) / "000002").mkdir()
                (newer / "claim.json").write_text('{"state": "free"}', encoding="utf-8")

    outcome = runner.run([cell], Job(tmp_path, "cpu"), InlineExecutor(), [Taken()])
    assert "held" in heard
    assert heard.count("started") == 2, "released again, it is this one's"
    assert heard[-1] == "done"
    assert len(outcome.done) == 1


GRID = ["--backbone", "identity,mlp", "--task", "hopper-medium", "--preset", "smoke", "--seeds", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [0, 3])
def test_eight_commands_leave_one_record_and_one_mlflow_run_a_cell(tmp_path: Path, kills: int) -> None:
    command = [str(Path(sys.executable).with_name("bench")), "run", *GRID, "--jobs", "1", "train.steps=150"]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(8)
    ]
    folder, victims = tmp_path / "results", list[subprocess.Popen[str]]()
    for number in range(kills):  # a run that works on a cell
        owner = wait_for_owner(folder, [run.pid for run in victims])
        victim = next(run for run in runs if run.pid == owner)
        time.sleep(0.3 * number)
        victim.kill()
        victims.append(victim)
    said = [run.communicate(timeout=500)[0] for run in runs]
    for run, text in zip(runs, said, strict=True):
        assert run.returncode == (-9 if run in victims else 0), text
        if run not in victims:
            assert "Traceback" not in text, text
            assert "MLflow tracking stopped" not in text, text
    records, broken = load_records(folder / "records")
    assert (len(records), broken) == (4, [])
    assert all(record.status == "done" for record in records)

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=path_url(folder / "mlflow.db", SQLITE))
    runs_there = client.search_runs([client.get_experiment_by_name("backbench").experiment_id])
    cells = [run for run in runs_there if run.data.tags["kind"] == "cell"]
    assert sorted(run.info.run_name for run in cells) == sorted(record.key for record in records)
    assert {run.info.status for run in cells} == {"FINISHED"}


def wait_for_owner(folder: Path, but: list[int]) -> int:
    """The process id of a run that holds a cell."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for path in folder.glob("checkpoints/*/*/claim.json"):
            with suppress(OSError, ValueError):
                content = json.loads(path.read_text(encoding="utf-8"))
                if content["state"] == "held" and content["pid"] not in but:
                    return int(content["pid"])
        time.sleep(0.02)
    raise AssertionError("nobody holds a cell")
