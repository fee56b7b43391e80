"""Many runs that log to one MLflow server on PostgreSQL: nothing is lost, and the server's death costs no run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import postgres_server
import pytest

pytestmark = pytest.mark.cluster
WRITERS, CELLS, STEPS = 32, 2, 50
WRITER = """
import sys
from backbench.benchmarks.run.sinks.mlflow import MLflow
number, cells, steps = map(int, sys.argv[1:4])
folder, address = sys.argv[4:]
tracker = MLflow(folder, address, warn=print)
tracker.start({"name": f"run {number}"})
for cell in map(str, range(cells)):
    tracker.cell_started(f"{number}-{cell}", {"train": {"lr": 0.001}})
    for step in range(steps):
        tracker.metrics(f"{number}-{cell}", step, {"loss": number + step / 1000})
    tracker.cell_failed(f"{number}-{cell}", "a test")
tracker.close()
"""


@contextmanager
def mlflow_server(database: str, folder: Path) -> Iterator[str]:
    """The address of a server that is as docs/how-to/track.md starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2", "--backend-store-uri", database]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=folder, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("psycopg2", reason="MLflow reaches PostgreSQL with psycopg2: make test-cluster")
    if absent := postgres_server.missing():
        pytest.skip(absent)
    with postgres_server.server() as address:
        yield address


def test_many_writers_share_one_experiment_and_lose_nothing(database: str, tmp_path: Path) -> None:
    """They start together on a new database."""
    with mlflow_server(database, tmp_path) as address:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, *map(str, (n, CELLS, STEPS, tmp_path / f"results-{n}", address))],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for n in range(WRITERS)
        ]  # fmt: skip
        said = [writer.communicate(timeout=900)[0] for writer in writers]
        assert said == [""] * WRITERS

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    (experiment,) = client.search_experiments(filter_string="name = 'backbench'")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(runs) == WRITERS * (1 + CELLS)
    cells = [run for run in runs if "cell" in run.data.tags]
    assert {run.data.tags["cell"] for run in cells} == {f"{n}-{one}" for n in range(WRITERS) for one in range(CELLS)}
    for run in cells:
        assert run.data.params["train.lr"] == "0.001"
        logged = client.get_metric_history(run.info.run_id, "loss")
        number = int(run.data.tags["cell"].split("-")[0])
        assert sorted((one.step, one.value) for one in logged) == [(s, number + s / 1000) for s in range(STEPS)]


def test_a_server_that_dies_in_the_middle_costs_one_line(database: str, tmp_path: Path) -> None:
    from backbench.benchmarks.run.sinks.mlflow import MLflow

    said: list[str] = []
    with mlflow_server(database, tmp_path) as address:
        tracker = MLflow(tmp_path / "results", address, warn=said.append, flush_every=1)
        tracker.start({"name": "a run"})
        tracker.cell_started("cell", {})
        tracker.metrics("cell", 1, {"loss": 1.0})
    for step in range(2, 5):
        tracker.metrics("cell", step, {"loss": 1.0})
    tracker.close()
    assert len(said) == 1, said
