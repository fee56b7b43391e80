"""``bench ui`` writes below ``--out`` only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from backbench.benchmarks.run.sinks.mlflow import MLflow

BENCH = str(Path(sys.executable).with_name("bench"))


def test_the_servers_artifacts_are_below_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backbench.benchmarks.cli.replay import ui

    (tmp_path / "mlflow.db").touch()
    asked: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: asked.append(words))
    ui(out=tmp_path, port=5000)
    for option in ("--artifacts-destination", "--default-artifact-root"):
        assert asked[0][asked[0].index(option) + 1].endswith(str(tmp_path / "mlartifacts"))


@pytest.mark.slow  # MLflow's server takes half a minute to start
def test_an_artifact_that_is_uploaded_to_the_page_lands_below_out(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "r", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with MLflow(out, warn=print) as tracker:
        tracker.start({"name": "x"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MLFLOW_WORKERS": "1"}
    command = [sys.executable, BENCH, "ui", "--out", str(out), "--port", str(port)]
    with subprocess.Popen(
        command, cwd=elsewhere, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    ) as server:
        try:
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow-artifacts/artifacts/sent/x.txt"
            for _ in range(480):
                try:
                    urllib.request.urlopen(urllib.request.Request(address, b"hello", method="PUT"), timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.25)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    assert (out / "mlartifacts" / "sent" / "x.txt").read_text(encoding="utf-8") == "hello"
    assert [*elsewhere.iterdir()] == []
