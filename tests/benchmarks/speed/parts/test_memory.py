"""Peak memory of a training step."""

from __future__ import annotations

from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.parts.memory import peak_memory


def test_peak_memory_is_that_of_the_training_step() -> None:
    """In a process of its own; what is kept for the backward pass alone is some ten tensors a layer."""
    config = SpeedConfig(("mlp",), device="cpu", d_model=64, n_layers=2, batch_size=128)
    tensor = 128 * 60 * 64 * 4 / 1e6  # of batch, length and width, in megabytes
    assert 2 * 5 * tensor < peak_memory("mlp", config).megabytes < 2 * 60 * tensor
