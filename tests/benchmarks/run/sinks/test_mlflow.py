"""The MLflow sink on a real database, and what happens when MLflow is in trouble: nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import record_factory as factory

from backbench.benchmarks.run.executors import Event
from backbench.benchmarks.run.sinks.log import flatten
from backbench.benchmarks.run.sinks.mlflow import MAX_KEY, MAX_PARAM, MLflow, _key, experiment_id
from backbench.benchmarks.run.sinks.mlflow_view import final, link
from backbench.text import SQLITE, path_url


def use(tracker: MLflow) -> None:
    """Everything a run calls."""
    tracker.start({"command": "bench run"})
    tracker.cell_started("a", {"train": {"lr": 1e-3}})
    tracker.metrics("a", 1, {"loss": 1.0})
    tracker.cell_finished("a", factory.make_record())
    tracker.cell_failed("b", "no memory")
    tracker.close()
    tracker.close()


def test_a_run_reads_back_from_mlflow(tmp_path: Path) -> None:
    warnings: list[str] = []
    tracker = MLflow(tmp_path / "results", warn=warnings.append, flush_every=7)
    record = factory.make_record()
    long = "x" * (MAX_PARAM + 1000)
    many = {f"p{index}": index for index in range(130)}
    tracker.start({"name": "an invocation", "overrides": {"seed": "0,1"}, "long": long})
    tracker.cell_started(record.key, {"train": {"lr": 1e-3}, "long": long, "k" * 400: 1, "odd key!": 2, **many})
    for step in range(20):
        tracker.metrics(record.key, step, {"loss": 1.0 / (step + 1), "nan": math.nan, "grad": math.inf})
    tracker.cell_finished(record.key, record)
    failed = factory.make_record(seed=1, failed="loss is nan")
    tracker.cell_started(failed.key, {})
    tracker.cell_finished(failed.key, failed)
    tracker.cell_failed("never-started", "y" * 100_000)
    tracker.cell_started("left-open", {})
    tracker.board(factory.full_suite("gloma", 50) + factory.full_suite("mlp", 40))
    tracker.close()
    assert warnings == []

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("backbench")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("an invocation")
    assert parent.info.status == "FAILED"  # since a cell failed
    assert parent.data.params["overrides.seed"] == "0,1"
    assert {"iqm/gloma", "mean/gloma", "iqm/mlp", "mean/mlp"} <= set(parent.data.metrics)
    board = tmp_path / "results" / "mlartifacts" / parent.info.run_id / "artifacts" / "board"
    assert "<svg" in (board / "index.html").read_text()
    assert "gloma" in (board / "board.md").read_text()
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert set(runs) == {record.key, failed.key, "never-started", "left-open"}
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in runs.values())
    assert {name: run.info.status for name, run in runs.items()} == {
        record.key: "FINISHED",
        failed.key: "FAILED",
        "never-started": "FAILED",
        "left-open": "KILLED",
    }
    run = runs[record.key]
    assert run.data.params["train.lr"] == "0.001"
    assert run.data.params["odd key_"] == "2"
    assert run.data.params["k" * MAX_KEY] == "1"
    assert run.data.params["p129"] == "129"
    assert len(run.data.params["long"]) == MAX_PARAM
    assert run.data.metrics["score"] == record.headline.normalised_mean
    assert run.data.metrics["return"] == record.headline.raw_mean
    assert run.data.metrics["cost/decision.p50_ms"] == record.cost.decision.p50_ms
    assert not {"nan", "grad"} & set(run.data.metrics)
    assert run.data.tags["nonfinite.nan"] == "nan first at step 0"
    assert run.data.tags["task"] == "hopper-medium"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda one: one.step)] == [
        (step, 1.0 / (step + 1)) for step in range(20)
    ]
    artifacts = tmp_path / "results" / "mlartifacts" / run.info.run_id / "artifacts"
    assert json.loads((artifacts / "record.json").read_text())["key"] == record.key
    assert json.loads((artifacts / "config.json").read_text()) == record.provenance.config
    assert runs[failed.key].data.tags["reason"] == "NonFiniteLoss: loss is nan"

    # A second invocation joins the database that is there.
    again = MLflow(tmp_path / "results", warn=warnings.append)
    again.start({})
    again.close()
    assert warnings == []
    assert len(client.search_runs([experiment.experiment_id])) == 6


def test_a_cell_that_is_resumed_stays_one_run(tmp_path: Path) -> None:
    """The process before was killed: its own run ends as killed, and the cell's goes on."""
    code = (
        "import os, sys; from backbench.benchmarks.run.sinks.mlflow import MLflow; "
        "tracker = MLflow(sys.argv[1], warn=print); tracker.start({'name': 'first'}); "
        "tracker.cell_started('a', {'x': 1}); tracker.metrics('a', 1, {'loss': 1.0}); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (9, "")
    for name in ("second", "third"):
        tracker = MLflow(tmp_path, warn=pytest.fail)
        tracker.start({"name": name})
        tracker.cell_started("a", {"x": 2})
        if name == "second":
            tracker.cell_failed("a", "stopped")
        else:
            tracker.cell_finished("a", factory.make_record())
        tracker.close()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracker.uri)
    runs = client.search_runs([client.get_experiment_by_name("backbench").experiment_id])
    status = {run.info.run_name: run.info.status for run in runs}
    assert status == {"first": "KILLED", "second": "FAILED", "third": "FINISHED", "a": "FINISHED"}
    parents = {run.info.run_id: run.info.run_name for run in runs}
    (cell,) = [run for run in runs if run.info.run_name == "a"]
    assert parents[cell.data.tags["mlflow.parentRunId"]] == "third"
    assert len(runs) == 4


def test_a_cell_that_another_process_took_has_no_run_here(tmp_path: Path, tiny_cell: Any) -> None:
    tracker, cell = MLflow(tmp_path, warn=pytest.fail), tiny_cell("identity")
    tracker.start({"name": "mine"})
    tracker.event(Event(cell, "held", message="process 1"))
    tracker.event(Event(cell, "taken", record=factory.make_record()))
    tracker.close()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracker.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("backbench").experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")


def test_metrics_have_equal_names_on_every_task() -> None:
    """Targets differ from task to task; columns must not."""
    hopper, cheetah = (factory.make_record(task=task) for task in ("hopper-medium", "halfcheetah-medium"))
    assert hopper.protocol.targets != cheetah.protocol.targets or hopper.key != cheetah.key
    assert set(final(hopper)) == set(final(cheetah))
    assert {"score", "return", "score target 2", "cost/parameters_total", "cost/decision.p50_ms"} <= set(final(hopper))


def test_a_link_names_the_view_that_is_saved(tmp_path: Path) -> None:
    tracker = MLflow(tmp_path, warn=pytest.fail)
    tracker.start({})
    tracker.close()
    found = experiment_id(tmp_path / "mlflow.db")
    assert found == tracker.experiment

    from mlflow import MlflowClient

    tags = MlflowClient(tracking_uri=tracker.uri).get_experiment(found).tags
    key = link(5000, found).partition("viewStateShareKey=")[2].partition("&")[0]
    view = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    assert view["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "backbone"}]
    assert "metrics.`score`" in view["selectedColumns"]


def test_a_folder_with_any_name_is_tracked_and_stays_so_when_it_is_moved(tmp_path: Path) -> None:
    """Nothing is written to the old place, and what was written there is read in the new one."""
    warnings: list[str] = []
    old, new = tmp_path / "a b%20" / "ü#?@", tmp_path / "moved %41"
    first = factory.make_record()
    with MLflow(old, warn=warnings.append) as tracker:
        tracker.start({})
        tracker.cell_finished(first.key, first)
    assert (old / "mlflow.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b%20"]
    (tmp_path / "a b%20").rename(new)
    new /= "ü#?@"
    second = factory.make_record(seed=1)
    with MLflow(new, warn=warnings.append) as tracker:
        tracker.start({})
        tracker.cell_finished(second.key, second)
    assert warnings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved %41"]

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=path_url(new / "mlflow.db", SQLITE))
    runs = client.search_runs([experiment_id(new / "mlflow.db")], "tags.kind = 'cell'")
    assert len(runs) == 2
    for run in runs:
        written = Path(client.download_artifacts(run.info.run_id, "record.json")).read_text(encoding="utf-8")
        assert json.loads(written)["status"] == "done"
    with sqlite3.connect(path_url(new / "mlflow.db"), uri=True) as connection:
        stored = connection.execute("SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs")
        assert [place for (place,) in stored if not place.startswith(path_url(new / "mlartifacts"))] == []


def test_an_experiment_that_another_process_created_in_between_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    class Crowded(mlflow.MlflowClient):
        """A server on which another process is quicker by one call."""

        late = True

        def get_experiment_by_name(self, name: str) -> Any:
            if Crowded.late:
                Crowded.late = False
                super().create_experiment(name)
                return None
            return super().get_experiment_by_name(name)

        def set_experiment_tag(self, *_: Any) -> None:
            raise mlflow.MlflowException("another process sets the tag")

    monkeypatch.setattr(mlflow, "MlflowClient", Crowded)
    warnings: list[str] = []
    use(MLflow(tmp_path, warn=warnings.append))
    assert warnings == []
    assert not Crowded.late
    monkeypatch.undo()
    assert len(mlflow.MlflowClient(path_url(tmp_path / "mlflow.db", SQLITE)).search_runs(["1"])) == 3


def test_no_experiment_in_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    assert experiment_id(tmp_path / "mlflow.db") is None


def corrupt(folder: Path) -> str | None:
    (folder / "mlflow.db").write_bytes(b"this is no database" * 100)
    return None


def a_file_in_the_way(folder: Path) -> str | None:
    (folder / "file").write_text("")
    return f"sqlite:///{folder / 'file' / 'mlflow.db'}"


def unknown_scheme(folder: Path) -> str | None:
    return "nonsense://somewhere"


@pytest.mark.parametrize("trouble", [corrupt, a_file_in_the_way, unknown_scheme])
def test_trouble_is_reported_once_and_costs_nothing(tmp_path: Path, trouble: Any) -> None:
    warnings: list[str] = []
    tracker = MLflow(tmp_path, trouble(tmp_path), warn=warnings.append)
    begun = time.monotonic()
    use(tracker)
    assert len(warnings) == 1
    assert "\n" not in warnings[0]
    assert "the run continues" in warnings[0]
    assert not tracker.active
    assert time.monotonic() - begun < 60


def test_a_failure_in_the_middle_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def create_run(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id="1"))

        def search_runs(self, *_: Any, **__: Any) -> Any:
            return []

        def log_batch(self, *_: Any, **__: Any) -> None:
            raise OSError("disk\nfull")

    def connect(self: MLflow) -> None:
        self._client = Broken()

    monkeypatch.setattr(MLflow, "_connect", connect)
    warnings: list[str] = []
    use(MLflow(tmp_path, warn=warnings.append))
    assert len(warnings) == 1
    assert "disk full" in warnings[0]


def test_names_are_flattened_and_cleaned_for_mlflow() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}
    assert _key("loss/train é|") == "loss/train __"
    assert _key("../up") == "up"
    assert _key("") == "_"


@pytest.mark.slow
def test_runs_that_start_together_on_a_fresh_server_share_one_experiment(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", path_url(tmp_path / "server.db", SQLITE), "--artifacts-destination", str(tmp_path)]
    code = (
        "import sys; from pathlib import Path; from backbench.benchmarks.run.sinks.mlflow import MLflow\n"
        "tracker = MLflow(sys.argv[1], sys.argv[2], warn=print); tracker.start({'name': sys.argv[1]})\n"
        "tracker.cell_started('a', {}); tracker.close()"
    )
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *words], cwd=tmp_path, start_new_session=True)
    try:
        wait_for(address)
        runs = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path / f"r{n}"), address], stdout=-1, text=True)
            for n in range(32)
        ]
        assert [run.communicate(timeout=900)[0] for run in runs] == [""] * 32
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=path_url(tmp_path / "server.db", SQLITE))
    (experiment,) = client.search_experiments(filter_string="name = 'backbench'")
    assert len(client.search_runs([experiment.experiment_id])) == 64


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError("the server does not answer")
