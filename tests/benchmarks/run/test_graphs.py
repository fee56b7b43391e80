"""``train.cuda_graphs``: the same losses as without, on a GPU, and on a CPU by a stand-in for graphs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

from backbench.agents.agent import Windows
from backbench.backbones import BACKBONES
from backbench.benchmarks.data import store
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.graphs import WARM_UP, Graphed
from backbench.benchmarks.run.train import learning_rate, make_optimizer, set_learning_rate, updater
from backbench.errors import UserError

Build = Callable[..., Cell]
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
UPDATES = 12


class Recorded(Graphed):
    """As with a CUDA graph: capturing does nothing, and each replay does the work on the memory that it was given."""

    besides, captures = 0, 0

    def beside(self, run: Callable[[], Tensor]) -> Tensor:
        self.besides += 1
        return run()

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        result = torch.full((), torch.nan)
        return lambda: result.copy_(run()) and None, result


def losses(cell: Cell, device: str, wrap: Callable[..., Any] = lambda update: update) -> list[float]:
    """Those of the training loop's own updates."""
    data = store.read(cell.task.data_id)
    agent = make_agent(cell, data).to(device).train()
    optimizer = make_optimizer(agent, cell.train, torch.device(device))
    sampler = WindowSampler(data, cell.model.context, cell.train.batch_size, cell.seed, torch.device(device))
    update = wrap(updater(agent, optimizer, cell.train))
    found = []
    for step in range(UPDATES):
        set_learning_rate(optimizer, learning_rate(step, cell.train))
        found.append(update(sampler.batch(step)))
    return [float(loss) for loss in found]


@pytest.mark.usefixtures("hopper_store")
@pytest.mark.parametrize("backbone", ["transformer", "gloma"])
def test_recorded_updates_have_the_losses_of_plain_ones(tiny_cell: Build, backbone: str) -> None:
    cell, made = tiny_cell(backbone, train__lr=1e-2), list[Recorded]()

    def wrap(update: Callable[..., Any]) -> Recorded:
        made.append(Recorded(update))
        return made[0]

    plain, recorded = losses(cell, "cpu"), losses(cell, "cpu", wrap)
    assert plain == recorded
    assert len(set(plain)) == UPDATES
    assert (made[0].besides, made[0].captures) == (WARM_UP, 1)


@pytest.mark.usefixtures("hopper_store")
@pytest.mark.parametrize("backbone", BACKBONES.names())
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=ON_GPU)])
def test_graphs_have_the_losses_of_plain_updates(tiny_cell: Build, backbone: str, bf16: bool, device: str) -> None:
    cell = tiny_cell(backbone, train__lr=1e-2, train__bf16=bf16, model__dropout=0.1)
    plain, again = losses(cell, device), losses(cell, device)
    graphed = losses(replace(cell, train=replace(cell.train, cuda_graphs=True)), device)
    assert len(set(plain)) == UPDATES
    if plain == again:  # these kernels give the same bits every time
        assert plain == graphed
    assert graphed == pytest.approx(plain, rel=1e-2 if bf16 else 1e-4)


@pytest.mark.usefixtures("hopper_store")
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=ON_GPU)])
def test_a_cell_with_graphs_trains_evaluates_and_resumes(tiny_cell: Build, tmp_path: Path, device: str) -> None:
    cell = tiny_cell("gloma", train__cuda_graphs=device == "cuda", train__steps=60, train__lr=3e-3)
    asked = itertools.count()
    with pytest.raises(Interrupted):
        run_cell(cell, tmp_path, device, should_stop=lambda: next(asked) == 24, command=["test"])
    record = run_cell(cell, tmp_path, device, command=["test"])
    assert record.failure is None
    losses = dict(record.curve.loss)
    assert list(losses) == list(range(5, 61, 5))
    assert losses[60] < losses[5]


def test_an_update_that_cannot_be_recorded_is_one_line() -> None:
    class Refusing(Recorded):
        def capture(self, run: Callable[[], Tensor]) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    update = Refusing(lambda batch: torch.zeros(()))
    batch = Windows(*torch.zeros(5, 2, 3))
    for _ in range(WARM_UP):
        update(batch)
    with pytest.raises(UserError, match=r"^train\.cuda_graphs: .*stream is capturing\); remove it$"):
        update(batch)


@pytest.mark.usefixtures("hopper_store")
def test_on_a_cpu_the_setting_is_refused_before_anything_is_written(tiny_cell: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.cuda_graphs=true needs a GPU, and the device is cpu; remove"):
        run_cell(tiny_cell(train__cuda_graphs=True), tmp_path, "cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_the_setting_on_a_cpu(bench: Callable[..., Any], tmp_path: Path) -> None:
    words = [
        "--backbone",
        "mlp",
        "--preset",
        "smoke",
        "--task",
        "hopper-medium",
        "--device",
        "cpu",
        "train.cuda_graphs=true",
    ]
    ran = bench("run", *words)
    assert (ran.code, ran.out) == (2, "")
    assert "train.cuda_graphs=true needs a GPU" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hopper_store")
def test_cells_without_the_setting_keep_their_keys(tiny_cell: Build) -> None:
    cell = tiny_cell()
    before = cell.resolved()
    del before["train"]["cuda_graphs"]
    from backbench.leaderboard.record.identity import config_digest

    assert cell.key.endswith(config_digest(before))
    assert tiny_cell(train__cuda_graphs=True).key != cell.key


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
def test_a_learning_rate_that_is_a_tensor_keeps_its_memory(lr: float | Tensor) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = AdamW([{"params": [weight]}], lr=lr, fused=True)
    set_learning_rate(optimizer, 0.5)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.detach().tolist() == pytest.approx([-0.5, -0.5])
    assert (optimizer.param_groups[0]["lr"] is lr) == isinstance(lr, Tensor)
