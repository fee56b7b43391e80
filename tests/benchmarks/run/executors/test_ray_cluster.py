"""Cells on a real Ray, on this machine: what is killed or cancelled ends with equal bits. ``make test-cluster``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import until

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import Event, Job, ray_cluster
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.benchmarks.run.executors.on_ray import RayExecutor
from backbench.leaderboard.record.files import load_record

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("hopper_store")]
Build = Callable[..., Cell]


@pytest.fixture(scope="module")
def cluster(_away_from_home: None) -> Iterator[Any]:
    """A head without CPUs, and a node with one."""
    pytest.importorskip("ray", reason="Ray is not installed: make test-cluster")
    import ray
    from ray.cluster_utils import Cluster

    store = {"object_store_memory": ray_cluster.STORE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
        started.add_node(num_cpus=1, **store)
        started.wait_for_nodes()
        ray_cluster.connect(started.address, 0, {})
        yield started
        ray.shutdown()
        started.shutdown()


class Driver:
    """A run in a thread."""

    def __init__(self, cells: list[Cell], results: Path) -> None:
        self.said: list[str] = []
        self.heard: list[Event] = []
        self.executor = RayExecutor(0, {}, self.said.append)
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
        assert not self.thread.is_alive(), (self.said, self.heard[-3:], self.logs())
        return self.outcome

    def until_step(self, step: int) -> None:
        until(lambda: any(event.step >= step for event in self.heard), f"step {step}", 120)

    def logs(self) -> list[dict[str, Any]]:
        lines = [line for log in self.results.glob("ray/*/*.log") for line in log.read_text().splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def starts(self) -> int:
        return [line["kind"] for line in self.logs()].count("started")


@pytest.fixture(scope="module")
def cell(tiny_cell: Build) -> Cell:
    """It trains for a few seconds."""
    return tiny_cell("mlp", train__steps=2000, train__log_every=20, train__checkpoint_every=150)


def digest(cell: Cell, results: Path) -> str | None:
    return load_record(cell.record_path(results)).provenance.weights_sha256


@pytest.fixture(scope="module")
def undisturbed(cell: Cell, hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """The digest of the cell's weights after a run that nothing disturbs."""
    runner.run([cell], Job(here := tmp_path_factory.mktemp("here"), "cpu"), InlineExecutor())
    return digest(cell, here)


def process_of(results: Path) -> int:
    """The process that runs the cell."""
    (claim,) = results.glob("checkpoints/*/*/claim.json")
    return int(json.loads(claim.read_text(encoding="utf-8"))["pid"])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_grid_is_equal_in_bits_to_a_local_run(cluster: Any, tiny_cell: Build, tmp_path: Path) -> None:
    cells = [tiny_cell(name, seed=seed) for name in ("identity", "mlp") for seed in (0, 1)]
    runner.run(cells, Job(tmp_path / "here", "cpu"), InlineExecutor())
    assert len(Driver(cells, tmp_path / "ray").end().done) == 4
    assert [digest(one, tmp_path / "ray") for one in cells] == [digest(one, tmp_path / "here") for one in cells]


def test_a_stopped_run_writes_checkpoints_and_resumes(
    cluster: Any, cell: Cell, undisturbed: str, tmp_path: Path
) -> None:
    driver = Driver([cell], tmp_path)
    driver.until_step(60)
    driver.executor.stop()
    driver.end()
    assert driver.heard[-1].kind == "stopped"
    assert list(tmp_path.glob("checkpoints/*/*/state.pt"))
    assert Driver([cell], tmp_path).end().done
    assert digest(cell, tmp_path) == undisturbed


@pytest.mark.parametrize("worker", ["dies", "lives on"])
def test_a_cell_whose_node_is_lost_has_one_record_with_equal_bits(
    cluster: Any, cell: Cell, undisturbed: str, tmp_path: Path, worker: str
) -> None:
    driver = Driver([cell], tmp_path)
    driver.until_step(200)  # there is a checkpoint at 150
    (lost,) = cluster.worker_nodes
    process = process_of(tmp_path)
    cluster.add_node(num_cpus=1, object_store_memory=ray_cluster.STORE)
    raylet = lost.all_processes["raylet"][0].process.pid
    if worker == "dies":
        kill(process, parent(process), raylet)
    else:
        os.kill(stopped := parent(process), signal.SIGSTOP)  # it cannot notice, and its cell goes on
        kill(raylet)
    outcome = driver.end()
    cluster.remove_node(lost, allow_graceful=False)
    if worker == "lives on":
        kill(stopped)
    assert outcome.done
    assert digest(cell, tmp_path) == undisturbed
    assert len(list(tmp_path.glob("records/*.json"))) == 1
    assert driver.starts() <= 2  # Ray ends a worker whose raylet is gone, and the cell's process with it


def test_a_driver_that_is_killed_and_run_again_resumes(cluster: Any, tmp_path: Path) -> None:
    words = ["run", "--backbone", "identity,mlp", "--task", "hopper-medium", "--preset", "smoke"]
    words += ["--executor", "ray", "--address", cluster.address, "--track", "none", "train.steps=600"]
    command = [str(Path(sys.executable).with_name("bench")), *words]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    until(lambda: list(tmp_path.glob("results/checkpoints/*/*/claim.json")), "running cell", 120)
    first.kill()
    first.wait()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert second.returncode == 0, second.stderr
    assert len(list(tmp_path.glob("results/records/*.json"))) == 2


def test_a_cluster_without_enough_is_one_line(cluster: Any, tmp_path: Path) -> None:
    words = ["run", "--backbone", "identity", "--task", "hopper-medium", "--preset", "smoke", "--executor", "ray"]
    words += ["--address", cluster.address, "--gpus", "2"]
    command = [str(Path(sys.executable).with_name("bench")), *words]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1), said.stderr
    assert "no node of the Ray cluster has what a cell needs" in said.stderr
    assert not (tmp_path / "results").exists()
