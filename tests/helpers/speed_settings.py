"""Settings of ``bench speed`` that take about a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from backbench.benchmarks.speed.config import SpeedConfig

CPU = torch.device("cpu")
CONTEXT = 4
WORDS = ("--d-model", 16, "--n-layers", 1, "--context", CONTEXT, "--batch-size", 4, "--repeats", 3, "--budget", 1)


def tiny(*backbones: str, **changes: Any) -> SpeedConfig:
    """Settings that take about a second, on the CPU."""
    settings = SpeedConfig(
        backbones, lengths=(6, 12), device="cpu", repeats=3, budget=0.5, d_model=16, n_layers=1, context=CONTEXT,
        batch_size=4,
    )  # fmt: skip
    return replace(settings, **changes)
