"""A whole training step: loss, backward pass, clipping, optimiser, as the training loop does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from backbench.agents.agent import Agent, Windows
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.run.train import make_optimizer, update
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.equality import make
from backbench.benchmarks.speed.models import Policy, Subject, steps, windows
from backbench.benchmarks.speed.report import TrainingEntry
from backbench.benchmarks.speed.timing import interleave, once


def training_step(
    policy: Agent | Policy, batch: Windows, config: SpeedConfig, device: torch.device
) -> Callable[[], torch.Tensor]:
    """A function that trains ``policy`` on ``batch`` once a call; the same update as ``benchmarks.train``'s."""
    policy.train()
    optimizer = make_optimizer(policy, config.train, device)
    return lambda: update(policy, policy.loss, batch, optimizer, config.train)


def batch_of(length: int, config: SpeedConfig) -> int:
    """Windows of ``length`` tokens in a batch, so that every length has about as many tokens a batch."""
    tokens = config.batch_size * config.model.context * TOKENS_PER_STEP
    return max(1, round(tokens / length))


def time_training(
    subjects: Mapping[str, Subject], context: int, config: SpeedConfig, device: torch.device, seconds: float
) -> list[TrainingEntry]:
    """Training steps on windows of ``context`` steps, all subjects in turn, in about ``seconds``."""
    length = TOKENS_PER_STEP * context
    batch = batch_of(length, config)
    data = windows(batch, context, device)
    calls = {
        name: once(training_step(make(one, config, context, device), data, config, device), device)
        for name, one in subjects.items()
    }
    taken = interleave(calls, config.repeats, seconds)
    return [TrainingEntry(subject=n, length=length, batch=batch, seconds=s) for n, s in taken.items()]


def time_lengths(
    subjects: Mapping[str, Subject], config: SpeedConfig, device: torch.device, seconds: float
) -> list[TrainingEntry]:
    """Training steps over ``config.lengths``, in about ``seconds``."""
    entries = []
    for length in config.lengths:
        entries += time_training(subjects, steps(length), config, device, seconds / len(config.lengths))
    return entries
