"""Cells on a real Slurm, on this machine: what is queued again, killed or cancelled ends with equal bits.

``make test-cluster`` runs these after ``make cluster-tools``. Jobs are on nodes of one core; a test looks every 0.3 s.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from slurm_cluster import Cluster, until

from backbench.benchmarks.api.status import state_of
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import Event, Job, sbatch, slurm
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.benchmarks.run.executors.slurm import SlurmExecutor
from backbench.leaderboard.record.files import load_record

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "none"),
    pytest.mark.usefixtures("hopper_store"),
]
Build = Callable[..., Cell]


@pytest.fixture(scope="module")
def cluster(_away_from_home: None) -> Iterator[Cluster]:
    started = Cluster(2)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        patch.setattr(slurm, "LOOK_AGAIN", 0.3)
        yield started
    started.stop()


class Driver:
    """A run in a thread."""

    def __init__(self, cells: list[Cell], results: Path, **options: str) -> None:
        self.said: list[str] = []
        self.heard: list[Event] = []
        self.executor = SlurmExecutor(0, options, self.said.append)
        self.cells, self.results = cells, results
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def event(self, event: Event) -> None:
        self.heard.append(event)

    def _run(self) -> None:
        (self.results / "records").mkdir(parents=True, exist_ok=True)
        self.outcome = runner.run(self.cells, Job(self.results, "cpu"), self.executor, [self])

    def end(self, seconds: float = 240) -> runner.Outcome:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), (self.said, self.heard[-3:])
        return self.outcome

    def until_step(self, step: int) -> None:
        until(lambda: any(event.step >= step for event in self.heard), f"step {step}", 120)

    @property
    def job(self) -> str:
        """Its array, such as 12."""
        return re.findall(r"job (\d+)", self.said[0])[0]


@pytest.fixture(scope="module")
def cell(tiny_cell: Build) -> Cell:
    """It trains for a few seconds."""
    return tiny_cell("mlp", train__steps=600, train__log_every=20, train__checkpoint_every=150)


def digest(cell: Cell, results: Path) -> str | None:
    return load_record(cell.record_path(results)).provenance.weights_sha256


@pytest.fixture(scope="module")
def undisturbed(cell: Cell, hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """The digest of the cell's weights after a run that nothing disturbs."""
    runner.run([cell], Job(here := tmp_path_factory.mktemp("here"), "cpu"), InlineExecutor())
    return digest(cell, here)


def trained(results: Path) -> list[list[int]]:
    """The steps that the log of the one cell has, for each start of its process."""
    (log,) = results.glob("slurm/*/0.log")
    starts: list[list[int]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        said: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
        if said.get("kind") == "started":
            starts.append([])
        if said.get("kind") == "train":
            starts[-1].append(said["step"])
    return starts


def test_a_cell_that_is_queued_again_ends_with_equal_bits(
    cluster: Cluster, cell: Cell, undisturbed: str, tmp_path: Path
) -> None:
    results = tmp_path / "slurm"
    driver = Driver([cell], results)
    driver.until_step(60)
    assert state_of(cell.key, results).word == "running"
    cluster.ask("scontrol", "requeue", f"{driver.job}_0")
    assert driver.end().done
    first, second = trained(results)
    assert 60 <= first[-1] < second[0], "it started over"
    assert digest(cell, results) == undisturbed
    assert [event.kind for event in driver.heard].count("done") == 1
    assert state_of(cell.key, results).word == "done"


def test_a_cell_whose_machine_fails_ends_on_another_with_equal_bits(
    cluster: Cluster, cell: Cell, undisturbed: str, tmp_path: Path
) -> None:
    results = tmp_path / "slurm"
    driver = Driver([cell], results)
    driver.until_step(200)  # there is a checkpoint at 150
    node = cluster.ask("squeue", "-h", "-j", driver.job, "-o", "%N").strip()
    (claim,) = results.glob("checkpoints/*/*/claim.json")
    cluster.kill_node(node, [json.loads(claim.read_text(encoding="utf-8"))["pid"]])
    assert driver.end().done
    cluster.start_node(node)
    assert trained(results)[1][0] == 160, "it resumed from its checkpoint"
    assert digest(cell, results) == undisturbed


def test_ctrl_c_leaves_jobs_and_a_second_one_cancels_them(
    cluster: Cluster, cell: Cell, undisturbed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "slurm"
    driver = Driver([cell], results)
    driver.until_step(60)
    monkeypatch.setattr(slurm, "SECOND_THOUGHT", 0.1)
    driver.executor.stop()
    driver.end()
    assert "go on without this command" in driver.said[-1]
    assert state_of(cell.key, results).word == "running"
    again = Driver([cell], results)
    until(lambda: again.heard, "an event", 120)
    assert again.said[0] == f"1 cells are in Slurm's queue from before: job {driver.job}"
    monkeypatch.setattr(slurm, "SECOND_THOUGHT", 30)
    again.executor.stop()
    again.executor.stop()
    again.end()
    assert again.said[-1].startswith("cancelled")
    until(lambda: state_of(cell.key, results).word == "left", "end of the job", 60)
    assert list(results.glob("checkpoints/*/*/state.pt"))
    assert Driver([cell], results).end().done
    assert digest(cell, results) == undisturbed


def test_a_controller_that_is_away_stops_no_cell_and_refuses_a_new_run(
    cluster: Cluster, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "slurm"
    driver = Driver([cell], results)
    driver.until_step(60)
    cluster.stop_controller()
    try:
        monkeypatch.setattr(sbatch, "PATIENCE", 3.0)
        with pytest.raises(sbatch.SlurmError, match=r"Slurm did not answer sbatch within 3 s|Unable to contact slurm"):
            sbatch.check({})
        assert driver.end().done
    finally:
        cluster.start_controller()
    assert any("jobs go on" in line for line in driver.said)


def test_a_cell_that_exceeds_its_time_says_so_and_resumes(cluster: Cluster, tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("mlp", train__steps=10**6, train__log_every=1000, train__checkpoint_every=10**5)
    outcome = Driver([cell], tmp_path, time="1").end()
    assert re.fullmatch(r"its job \d+_0 reached its time limit; .*longer --time.*", outcome.errors[cell.key])
    assert list(tmp_path.glob("checkpoints/*/*/state.pt"))


def test_the_command_finds_its_jobs_after_it_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    words = ["run", "--backbone", "identity,mlp", "--task", "hopper-medium", "--preset", "smoke", "--seeds", "2"]
    # Two rounds on two nodes: the second command needs its time to start.
    words += ["--executor", "slurm", "--time", "10", "--track", "none", "train.steps=300"]
    command = [str(Path(os.sys.executable).with_name("bench")), *words]  # type: ignore[attr-defined]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    until(lambda: list(tmp_path.glob("results/checkpoints/*/*/claim.json")), "running cell", 120)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert second.returncode == 0, second.stderr
    assert "in Slurm's queue from before" in second.stdout
    assert len(list(tmp_path.glob("results/slurm/*"))) == 1, "a cell was submitted twice"
    assert len(list(tmp_path.glob("results/records/*.json"))) == 4


def test_what_slurm_refuses_is_one_line_and_nothing_is_written(
    cluster: Cluster, bench: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["run", "--backbone", "identity", "--task", "hopper-medium", "--preset", "smoke", "--executor", "slurm"]
    said = bench(*words, "--partition", "nope")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "sbatch says: invalid partition specified: nope" in said.err
    assert not (tmp_path / "results").exists()
