"""Training steps are those of the training loop, and their peak memory is theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from speed_settings import CONTEXT, CPU, tiny

from backbench.benchmarks.plan.settings import TrainConfig
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.models import backbone_model, make_policy, windows
from backbench.benchmarks.speed.parts.training import batch_of, peak_memory, training_step


def test_training_step_equals_the_training_loop_bit_for_bit(tiny_cell: Callable[..., Any], tmp_path: Path) -> None:
    """The same updates as ``train``'s, bit for bit."""
    from backbench.benchmarks.run.checkpoint import Checkpoints
    from backbench.benchmarks.run.train import Caller, train
    from backbench.claims import take

    config = tiny("mamba")
    batch = windows(4, CONTEXT, "cpu")

    class Sampler:
        device = CPU

        def batch(self, number: int) -> Any:
            return batch

    cell = tiny_cell("mamba", model=config.model, train=replace(config.train, steps=3, warmup=0))
    agents = [make_policy(backbone_model("mamba", config), config, config.context) for _ in range(2)]
    torch.manual_seed(5)
    train(cell, agents[0], Sampler(), Checkpoints(take(tmp_path)), None, Caller(lambda _: None, lambda: False))  # type: ignore[arg-type]
    torch.manual_seed(5)
    step = training_step(agents[1], batch, config)
    for _ in range(3):
        step()
    assert all(torch.equal(a, b) for a, b in zip(*(agent.parameters() for agent in agents), strict=True))


def test_every_length_has_as_many_tokens_a_batch() -> None:
    config = SpeedConfig(("mamba",))
    assert [batch_of(length, config) for length in (60, 21, 258, 1026, 9999)] == [64, 183, 15, 4, 1]
    assert config.train == TrainConfig(batch_size=64)


def test_peak_memory_is_that_of_the_training_step() -> None:
    """In a process of its own; what is kept for the backward pass alone is some ten tensors a layer."""
    config = SpeedConfig(("mlp",), device="cpu", d_model=64, n_layers=2, batch_size=128)
    tensor = 128 * 60 * 64 * 4 / 1e6  # of batch, length and width, in megabytes
    assert 2 * 5 * tensor < peak_memory("mlp", config).megabytes < 2 * 60 * tensor
