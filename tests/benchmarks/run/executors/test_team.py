"""Processes that train one cell together end where one process does, and a lost one costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backbench.benchmarks.data import store
from backbench.benchmarks.plan.settings import Cell, TrainConfig
from backbench.benchmarks.run.cell import make_sampler, run_cell
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.executors import Job, order, team
from backbench.errors import UserError

Build = Callable[..., Cell]
Weights = dict[str, torch.Tensor]


def weights_of(cell: Cell, results: Path) -> Weights:
    return load_file(cell.checkpoint_folder(results) / "last.safetensors")


def trained(cell: Cell, results: Path) -> Weights:
    record = run_cell(cell, results, "cpu", command=["test"])
    assert record.status == "done", record.failure
    return weights_of(cell, results)


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def together(hopper_store: Path, tiny_cell: Build) -> Cell:
    """With dropout, whose numbers every process draws."""
    return tiny_cell("mamba", train__processes=2, train__steps=12, train__checkpoint_every=4)


def test_two_processes_end_where_one_does(hopper_store: Path, tiny_cell: Build, tmp_path: Path) -> None:
    """Without dropout. The halves of a batch have unequal numbers of real steps, so they must be weighted."""
    settings = {"model__dropout": 0.0, "model__context": 40, "train__steps": 12, "train__lr": 3e-3}
    alone, both = (tiny_cell("gloma", train__processes=count, **settings) for count in (1, 2))
    sampler, _ = make_sampler(alone, store.read(alone.task.data_id), torch.device("cpu"))
    real = [[int(sampler.batch(step).mask[half::2].sum()) for half in (0, 1)] for step in range(12)]
    assert any(first != second for first, second in real)
    one, two = trained(alone, tmp_path / "one"), trained(both, tmp_path / "two")
    assert not same(one, two), "one process did all"
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-5)
    assert alone.key != both.key
    losses = [
        json.loads(next(folder.glob("records/*.json")).read_text(encoding="utf-8"))["curve"]["loss"]
        for folder in (tmp_path / "one", tmp_path / "two")
    ]
    assert [loss for _, loss in losses[0]] == pytest.approx([loss for _, loss in losses[1]], abs=1e-5)


def test_a_training_that_was_stopped_ends_with_equal_bits(together: Cell, tmp_path: Path) -> None:
    whole = trained(together, tmp_path / "whole")
    calls = iter(range(1000))
    with pytest.raises(Interrupted):
        run_cell(together, tmp_path / "again", "cpu", should_stop=lambda: next(calls) == 6, command=["test"])
    assert same(trained(together, tmp_path / "again"), whole)


def test_a_lost_process_is_no_failure_and_the_cell_resumes(
    together: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(together, tmp_path / "whole")
    started: list[Any] = []
    original = team._start

    def noted(*words: Any) -> Iterator[Any]:
        for one in original(*words):
            started.append(one)
            yield one

    with monkeypatch.context() as patch:
        patch.setattr(team, "_start", noted)
        calls = iter(range(1000))
        with pytest.raises(
            OSError, match="a process that trains it too ended with status -9; the same command resumes"
        ):
            run_cell(
                together,
                tmp_path / "again",
                "cpu",
                should_stop=lambda: next(calls) == 6 and bool(started[0].kill()),
                command=["test"],
            )
    assert not list((tmp_path / "again").glob("records/*.json"))
    assert same(trained(together, tmp_path / "again"), whole)


def test_a_signal_to_all_of_them_ends_in_a_checkpoint(together: Cell, tmp_path: Path) -> None:
    """As Ctrl-C sends it."""
    cell = replace(together, train=replace(together.train, steps=60, log_every=2))
    whole = trained(cell, tmp_path / "whole")
    path = tmp_path / "cell.json"
    path.write_text(order(cell, Job(tmp_path)), encoding="utf-8")
    words = [sys.executable, "-m", "backbench.run_cell", str(path), "--results", str(tmp_path / "results")]
    with subprocess.Popen([*words, "--device", "cpu"], stdout=subprocess.PIPE, start_new_session=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if json.loads(line)["kind"] == "train":
                os.killpg(running.pid, signal.SIGINT)
                break
        running.stdout.read()
    assert running.returncode == 143
    assert same(trained(cell, tmp_path / "results"), whole)


def test_an_error_of_the_backbone_fails_the_cell_and_ends_all(
    hopper_store: Path, tiny_cell: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first process alone, while the other one waits for its gradients."""
    cell = tiny_cell("mlp", train__processes=2)

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("backbench.agents.agent.Agent.forward", broken)
    record = run_cell(cell, tmp_path, "cpu", command=["test"])
    assert record.failure is not None
    assert record.failure.message == "planted"


@pytest.mark.slow
def test_torchrun_starts_all_of_them(together: Cell, tmp_path: Path) -> None:
    whole = trained(together, tmp_path / "whole")
    path = tmp_path / "cell.json"
    path.write_text(order(together, Job(tmp_path)), encoding="utf-8")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    words += ["backbench.run_cell", str(path), "--results", str(tmp_path / "results"), "--device", "cpu"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert same(weights_of(together, tmp_path / "results"), whole)


def test_another_number_of_processes_is_refused(
    together: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "3")
    with pytest.raises(
        UserError, match=r"torchrun started 3 processes, and the cell has train\.processes=2; give equal"
    ):
        run_cell(together, tmp_path, "cpu", command=["test"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"processes": 3, "batch_size": 64}, "train.processes=3: train.batch_size=64 is no multiple of it"),
        ({"processes": 0}, "train.processes=0"),
        ({"processes": 2, "cuda_graphs": True}, "captures one process's update; give train.processes=1"),
    ],
)
def test_settings_that_cannot_be_shared(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        TrainConfig(**settings)


def test_one_process_is_the_cell_that_it_was(tiny_cell: Build) -> None:
    cell = tiny_cell("mlp")
    assert cell.resolved()["train"]["processes"] == 1
    assert tiny_cell("mlp", train__processes=1).key == cell.key
    assert tiny_cell("mlp", train__processes=2).key != cell.key
