"""Ray as an executor, without a Ray: what is refused, and the process that a worker starts."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.run.executors import on_ray, ray_cluster
from backbench.errors import UserError


def test_a_cell_asks_for_its_gpus_and_memory() -> None:
    asked = ray_cluster.needs({"gpus": "A100:0.5", "mem": "2G"})
    assert asked == {"num_cpus": 1, "num_gpus": 0.5, "accelerator_type": "A100", "memory": 2**31}
    assert ray_cluster.needs({}) == {"num_cpus": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [({"gpus": "many"}, "--gpus many: give 1"), ({"gpus": "a:"}, "--gpus a:: give"), ({"mem": "4X"}, "--mem 4X: give")],
)
def test_a_need_that_cannot_be_read_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ray_cluster.connect("", 1, options)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'backbench\[ray\]'"):
        ray_cluster.connect("", 1, {})


def test_an_address_that_does_not_answer_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: object())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="does not answer: Connection refused"):
            ray_cluster.connect(f"127.0.0.1:{closed.getsockname()[1]}", 1, {})
    with pytest.raises(UserError, match="--address head: give HOST:PORT"):
        ray_cluster.connect("head", 1, {})


@pytest.mark.parametrize("alive", [True, False])
def test_a_cell_that_no_living_node_can_hold_is_refused(alive: bool) -> None:
    nodes: list[dict[str, Any]] = [{"Alive": alive, "Resources": {"CPU": 4.0, "memory": 2.0**32}}]
    if alive:
        ray_cluster._fits(ray_cluster.needs({"mem": "4G"}), nodes)
    with pytest.raises(UserError, match=r"1 GPU \(most on a node: 0 GPU\)"):
        ray_cluster._fits(ray_cluster.needs({"gpus": "1"}), nodes)


def test_cancelling_ends_the_process_of_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray.sys, "executable", str(script := tmp_path / "python"))
    script.write_text("#!/bin/sh\ntrap 'exit 143' TERM\necho started\nwhile :; do sleep 0.05; done\n")
    script.chmod(0o755)

    def cancel(seconds: float) -> None:
        if (tmp_path / "log").read_text() == "started\n":
            raise KeyboardInterrupt
        threading.Event().wait(seconds)

    monkeypatch.setattr(time, "sleep", cancel)
    assert on_ray.work([], str(tmp_path / "log"), str(tmp_path), {}) == 143
