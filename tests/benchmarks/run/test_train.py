"""The training loop: weight decay, the learning rate, and the same bits for the same seed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from backbench.backbones import BACKBONES
from backbench.benchmarks.data import store
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell, TrainConfig
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.evaluate import Play
from backbench.benchmarks.run.train import learning_rate, make_optimizer
from backbench.leaderboard.record.files import load_record
from backbench.leaderboard.record.schema import Record

pytestmark = pytest.mark.usefixtures("hopper_store")
Build = Callable[..., Cell]


@pytest.mark.parametrize("name", BACKBONES.names())
def test_only_matrices_decay(tiny_cell: Build, name: str) -> None:
    cell = tiny_cell(name)
    agent = make_agent(cell, store.read(cell.task.data_id))
    names = {id(p): n for n, p in agent.named_parameters()}
    groups = make_optimizer(agent, TrainConfig(weight_decay=0.1), torch.device("cpu")).param_groups
    decays, spared = ({names[id(p)] for p in group["params"]} for group in groups)
    assert sum(len(group["params"]) for group in groups) == len(names), "not each exactly once"
    assert decays | spared == set(names.values())
    assert not decays & spared
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    never = re.compile(r"bias$|norm|embed_timestep|A_log|(^|\.)D$")
    assert {n for n in decays if never.search(n)} == set()
    weights = {f"{n}.weight" for n, m in agent.named_modules() if isinstance(m, nn.Linear)}
    assert weights <= decays
    if name == "mamba":
        assert any("A_log" in n for n in spared)
        assert any(re.search(r"\.D$", n) for n in spared)


def test_frozen_parameters_are_not_optimised() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    decays, spared = make_optimizer(model, TrainConfig(), torch.device("cpu")).param_groups
    assert (len(decays["params"]), len(spared["params"])) == (0, 1)


def test_the_learning_rate_warms_up_and_follows_its_schedule() -> None:
    cosine = TrainConfig(steps=104, lr=2.0, warmup=4, schedule="cosine")
    given = [learning_rate(step, cosine) for step in (0, 1, 2, 3, 4, 29, 54, 79)]
    quarter = math.sqrt(0.5)
    expected = [0.5, 1.0, 1.5, 2.0, 2.0, 2 * (0.55 + 0.45 * quarter), 1.1, 2 * (0.55 - 0.45 * quarter)]
    assert given == pytest.approx(expected)
    assert 0.2 < learning_rate(103, cosine) < 0.2005  # on the way to a tenth
    floor = replace(cosine, schedule="cosine_floor", schedule_steps=124)  # 120 steps from the peak to the lowest point
    given = [learning_rate(step, floor) for step in (3, 4, 44, 64, 94, 103)]
    assert given == pytest.approx([2.0, 2.0, 1.5, 1.0, 1 - quarter, 0.2])
    assert [learning_rate(step, replace(floor, steps=500)) for step in (110, 124, 499)] == [0.2] * 3
    assert learning_rate(79, replace(cosine, schedule_steps=154)) == pytest.approx(1.1)  # half of the way
    constant = TrainConfig(steps=10, lr=2.0, warmup=0)
    assert {learning_rate(step, constant) for step in range(10)} == {2.0}
    assert learning_rate(0, TrainConfig(steps=1, lr=2.0, warmup=50)) == 2.0 / 50


def go(cell: Cell, results: Path, **options: Any) -> Record:
    torch.manual_seed(len(str(results)))  # earlier use of the generator must not matter
    record = run_cell(cell, results, "cpu", command=["test"], **options)
    assert record.failure is None
    return record


def bits(record: Record) -> tuple[Any, ...]:
    assert record.scores is not None
    return record.provenance.weights_sha256, record.scores.model_dump(), record.curve.model_dump()


def test_the_loss_falls(tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("gloma", train__steps=150, train__lr=3e-3, train__log_every=10, train__evaluations=1)
    losses = [loss for _, loss in go(cell, tmp_path).curve.loss]
    assert losses[-1] < 0.7 * losses[0]


def test_equal_cells_end_with_equal_bits(tiny_cell: Build, tmp_path: Path) -> None:
    """Also with other intervals of logging and checkpoints, which are not part of a cell's key."""
    first = go(tiny_cell(), tmp_path / "a")
    again = go(tiny_cell(), tmp_path / "other")
    assert bits(again) == bits(first)
    other = tiny_cell(train__log_every=7, train__checkpoint_every=4)
    assert other.key == first.key
    assert bits(go(other, tmp_path / "c"))[:2] == bits(first)[:2]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"train__lr": 2e-3}, {"train__clip": 0.01}, {"train__weight_decay": 0.5}]
)
def test_what_changes_a_result_changes_key_and_bits(tiny_cell: Build, tmp_path: Path, change: dict[str, Any]) -> None:
    first, other = tiny_cell("identity"), tiny_cell("identity", **change)
    assert first.key != other.key
    results = [go(cell, tmp_path).provenance.weights_sha256 for cell in (first, other)]
    assert results[0] != results[1]


def test_the_record_agrees_with_the_events_and_the_cell(tiny_cell: Build, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    cell = tiny_cell(train__evaluations=3)
    record = go(cell, tmp_path, report=events.append)
    assert load_record(cell.record_path(tmp_path)) == record
    lines = [e for e in events if e["kind"] == "train"]
    assert [e["step"] for e in lines] == [5, 10, 15, 20, 25, 30]
    assert [e["lr"] for e in lines] == [learning_rate(e["step"] - 1, cell.train) for e in lines]
    assert [e["step"] for e in events if e["kind"] == "eval"] == [10, 20, 30]
    assert [e.step for e in record.curve.evaluations] == [10, 20]
    assert record.scores is not None
    assert record.cost is not None
    assert record.identity.data is not None
    assert record.identity.data.sha256 == store.read(cell.task.data_id).digest
    assert [t.target for t in record.scores.last.targets] == list(cell.targets)
    assert all(len(t.returns) == 2 and max(t.lengths) <= 15 for t in record.scores.last.targets)
    assert record.cost.train_tokens_per_s > 0
    assert record.provenance.device == "cpu"
    assert record.protocol.head == "tanh"
    assert record.provenance.config == cell.resolved()
    kept = sorted(p.name for p in cell.checkpoint_folder(tmp_path).iterdir())
    assert kept == ["best.safetensors", "last.safetensors"]
    assert str(Path.home()) not in cell.record_path(tmp_path).read_text()


def test_the_best_is_never_worse_than_the_last(tiny_cell: Build, tmp_path: Path) -> None:
    scores = go(tiny_cell("mlp", train__evaluations=6), tmp_path).scores
    assert scores is not None
    assert scores.best is not None
    assert scores.best.targets[0].raw_mean >= scores.last.targets[0].raw_mean
    assert scores.best.targets[0].target == scores.last.targets[0].target


def test_a_curve_plays_other_starts_and_changes_no_score(tiny_cell: Build, tmp_path: Path) -> None:
    """Nobody can choose by it: it keeps no best checkpoint, and its episodes are none of the scored ones."""
    scored = tiny_cell(train__evaluations=1)
    curved = tiny_cell(train__evaluations=3, eval__curve_episodes=1)
    first, other = go(scored, tmp_path), go(curved, tmp_path)
    assert first.key != other.key
    assert [e.step for e in first.curve.evaluations] == []
    assert [e.step for e in other.curve.evaluations] == [10, 20]
    assert other.scores is not None
    assert other.scores.best is None
    assert first.scores == other.scores
    assert first.provenance.weights_sha256 == other.provenance.weights_sha256
    assert sorted(p.name for p in curved.checkpoint_folder(tmp_path).iterdir()) == ["last.safetensors"]
    play, curve = Play.of(curved, curved.targets), Play.for_curve(curved, curved.targets)
    starts = [set(np.random.SeedSequence(one.seed).generate_state(50).tolist()) for one in (play, curve)]
    assert not starts[0] & starts[1]
    assert (curve.episodes, curve.targets) == (1, curved.targets[:1])
    assert Play.for_curve(scored, scored.targets).seed == play.seed


def test_the_best_trajectories_alone_train_the_control(tiny_cell: Build, tmp_path: Path) -> None:
    every, top = tiny_cell("identity"), tiny_cell("identity", data__top=0.3)
    records = [go(cell, tmp_path) for cell in (every, top)]
    assert records[0].identity.data == records[1].identity.data, "the data set is the same, and so are its statistics"
    assert records[0].provenance.weights_sha256 != records[1].provenance.weights_sha256
    assert records[1].provenance.config["data"]["top"] == 0.3


def test_the_weights_on_disk_are_those_of_the_record(tiny_cell: Build, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from backbench.benchmarks.run.checkpoint import weights_digest

    cell = tiny_cell()
    record = go(cell, tmp_path)
    weights = load_file(cell.checkpoint_folder(tmp_path) / "last.safetensors")
    assert weights_digest(weights) == record.provenance.weights_sha256
    agent = make_agent(cell, store.read(cell.task.data_id))
    agent.load_state_dict(weights)


def test_a_cell_trains_in_bfloat16(tiny_cell: Build, tmp_path: Path) -> None:
    record = go(tiny_cell("gloma", train__bf16=True, train__steps=10), tmp_path)
    assert record.provenance.dtype == "bfloat16"
