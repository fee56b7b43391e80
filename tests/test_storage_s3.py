"""Results in a bucket of a server of S3's interface on loopback: kills, takeovers, and what cannot be reached."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import killed_runs
import moto_server
import pytest

from backbench import storage
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.executors import Job, order

pytest.importorskip("moto", reason="the server is of moto[server]: make test-cluster")
pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with moto_server.bucket() as url:
        yield url


@pytest.fixture(autouse=True)
def _mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKBENCH_MIRRORS", str(tmp_path / "mirrors"))


def test_of_many_creates_one_wins(bucket: str) -> None:
    root = storage.folder(f"{bucket}/creates")
    disk = storage.disk(root)
    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            path = root / f"records/{number}.json"
            won = pool.map(lambda word: disk.publish(path, word), map(str, range(16)))  # noqa: B023  # used at once
            assert sum(won) == 1


def test_a_cell_killed_in_the_middle_is_resumed_by_another_machine(
    bucket: str, hopper_store: Path, tmp_path: Path
) -> None:
    """Two processes with mirrors of their own; the second finds the first one's checkpoint in the bucket."""
    cell, url = killed_runs.the_cell(), f"{bucket}/killed"
    whole = run_cell(cell, tmp_path / "whole", "cpu")
    (tmp_path / "cell.json").write_text(order(cell, Job(tmp_path)), encoding="utf-8")

    def start(machine: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "backbench.run_cell", str(tmp_path / "cell.json"), "--results", url]
        environment = os.environ | {"BACKBENCH_MIRRORS": str(tmp_path / machine)}
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    first = start("first")
    state = storage.folder(url) / "checkpoints" / cell.key / "000001/state.pt"
    disk = storage.disk(storage.folder(url))
    assert isinstance(disk, storage.Objects)
    deadline = time.monotonic() + 120
    while "000001/state.pt" not in disk.listing(state.parents[1]) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start("second")
    out, err = second.communicate(timeout=200)
    assert second.returncode == 0, err
    steps = [json.loads(line).get("step", 0) for line in out.splitlines() if '"train"' in line]
    assert min(steps) > 7, "resumed"
    root = storage.pull(url)
    names = sorted(name for name in disk.listing(root) if not name.endswith(".plan"))
    weights = ("best.safetensors", "last.safetensors")
    assert names == [*(f"checkpoints/{cell.key}/{one}" for one in weights), f"records/{cell.key}.json"]
    again = json.loads(cell.record_path(root).read_text(encoding="utf-8"))
    assert again["provenance"]["weights_sha256"] == whole.provenance.weights_sha256


def test_a_grid_runs_into_a_bucket_and_every_command_reads_it(
    bucket: str, hopper_store: Path, bench: Callable[..., Any], tmp_path: Path
) -> None:
    url = f"{bucket}/grid"
    words = ["--task", "hopper-medium", "--preset", "smoke", "train.steps=20", "--out", url]
    ran = bench("run", "--backbone", "identity,mlp", *words, LANG="C.UTF-8")
    assert ran.code == 0, ran.err
    assert f"results in {url}" in ran.out
    assert "MLflow's database stays on this machine" in ran.out
    elsewhere = {"BACKBENCH_MIRRORS": str(tmp_path / "elsewhere"), "LANG": "C.UTF-8"}
    assert "2 cells: 2 done" in bench("status", url, **elsewhere).out
    assert "mlp" in bench("leaderboard", url, **elsewhere).out
    done = bench("export", "mlp", "--results", url, "--to", tmp_path / "agent", **elsewhere)
    assert done.code == 0, done.err
    again = bench("run", "--backbone", "identity,mlp", *words, "--dry-run", **elsewhere)
    assert "0 of 2 cells to run" in again.out


@pytest.mark.parametrize(
    ("environment", "url", "said"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://any/where", "Could not connect"),
        ({}, "s3://no-such-bucket/a", "no-such-bucket"),
    ],
)
def test_what_cannot_be_reached_is_one_line(
    bucket: str, bench: Callable[..., Any], environment: dict[str, str], url: str, said: str
) -> None:
    began = time.monotonic()
    for words in (("run", "--backbone", "mlp", "--task", "hopper-medium", "--out", url), ("status", url)):
        got = bench(*words, LANG="C.UTF-8", **environment)
        assert got.code == 2
        assert said in got.err
        assert got.err.count("\n") == 1, got.err
    assert time.monotonic() - began < 120
