"""What ``bench speed`` is asked to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backbench.benchmarks.plan.settings import ModelConfig, TrainConfig
from backbench.errors import UserError, require, suggest

# What is measured, and the share of the time budget that each part gets.
PARTS = {"training": 0.15, "lengths": 0.25, "latency": 0.2, "acting": 0.2, "memory": 0.0, "kernels": 0.2}
OBSERVATION, ACTION, EPISODE = 17, 6, 1000  # HalfCheetah-v5's
ENVIRONMENT = "HalfCheetah-v5"
TARGET, RETURN_SCALE = 6000.0, 1000.0
SHAPE = ModelConfig(d_model=128, n_layers=3, dropout=0.1, context=20)  # Decision Transformer's on Gym


@dataclass(frozen=True)
class SpeedConfig:
    """Settings of a measurement; plain values, so that it travels to a fresh process as JSON."""

    # Names of backbones, or package.module:Class.
    backbones: tuple[str, ...]
    # The backbones' own options, for each of them alike.
    options: Mapping[str, Any] = field(default_factory=dict)
    # Width, depth, dropout, and K of what is measured at one length.
    model: ModelConfig = SHAPE
    # Windows in a batch of that length; other lengths get as many tokens a batch.
    batch_size: int = 64
    # Contexts, in tokens.
    lengths: tuple[int, ...] = (20, 64, 256, 1024)
    # Whether other packages' implementations are measured beside ours.
    peers: bool = False
    # Some of PARTS.
    parts: tuple[str, ...] = tuple(PARTS)
    # Threads of an operation on the CPU.
    threads: int = 1
    # Timed runs of everything, at most.
    repeats: int = 7
    # Seconds for all timed runs together, about; 0 for 180, or 360 with peers.
    budget: float = 0.0
    # Train under autocast to bfloat16.
    bf16: bool = False

    def __post_init__(self) -> None:
        require(bool(self.backbones), "--backbone: name at least one; bench list backbones")
        require(len(set(self.backbones)) == len(self.backbones), "--backbone: the same backbone twice")
        require(bool(self.lengths), "--lengths: give at least one length, in tokens, such as 20,64,256,1024")
        for name in ("threads", "repeats", "batch_size", *("lengths" for _ in self.lengths)):
            values = getattr(self, name)
            least = min(values) if isinstance(values, tuple) else values
            require(least >= 1, f"--{name.replace('_', '-')} {least}: give at least 1")
        require(self.budget >= 0, f"--budget {self.budget:g}: give a number of seconds")
        require(bool(self.parts), f"--parts: give some of {', '.join(PARTS)}")
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"unknown part '{part}'{suggest(part, PARTS)}")

    @property
    def train(self) -> TrainConfig:
        """The training loop's settings."""
        return TrainConfig(batch_size=self.batch_size, bf16=self.bf16)

    def seconds(self, part: str) -> float:
        """Time for the timed runs of ``part``; what parts that are left out would need goes to the others."""
        whole = self.budget or (360.0 if self.peers else 180.0)
        return whole * PARTS[part] / max(1e-9, sum(PARTS[name] for name in self.parts))
