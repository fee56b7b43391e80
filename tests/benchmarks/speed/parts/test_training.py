"""Training steps are those of the training loop."""

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
from backbench.benchmarks.speed.parts.training import batch_of, training_step


def test_training_step_equals_the_training_loop_bit_for_bit(tiny_cell: Callable[..., Any], tmp_path: Path) -> None:
    """The same updates as ``train``'s, bit for bit."""
    from backbench.benchmarks.run.train import train

    config = tiny("mamba")
    batch = windows(4, CONTEXT, "cpu")

    class Sampler:
        def batch(self, number: int) -> Any:
            return batch

    cell = tiny_cell("mamba", model=config.model, train=replace(config.train, steps=3, warmup=0))
    agents = [make_policy(backbone_model("mamba", config), config, config.context) for _ in range(2)]
    torch.manual_seed(5)
    train(cell, agents[0], Sampler(), CPU, tmp_path, None, lambda _: None, lambda: False)  # type: ignore[arg-type]
    torch.manual_seed(5)
    step = training_step(agents[1], batch, config)
    for _ in range(3):
        step()
    assert all(torch.equal(a, b) for a, b in zip(*(agent.parameters() for agent in agents), strict=True))


def test_every_length_has_as_many_tokens_a_batch() -> None:
    config = SpeedConfig(("mamba",))
    assert [batch_of(length, config) for length in (60, 21, 258, 1026, 9999)] == [64, 183, 15, 4, 1]
    assert config.train == TrainConfig(batch_size=64)
