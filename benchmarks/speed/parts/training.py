"""A complete training step: loss, backward pass, clipping and optimiser, as in the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from backbench.agents.agent import Windows
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.run.train import make_optimizer, update
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, Policy, make_policy, steps, windows
from backbench.benchmarks.speed.report import Fields, TrainingEntry
from backbench.benchmarks.speed.timing import interleave, once


def training_step(policy: Policy, batch: Windows, config: SpeedConfig) -> Callable[[], torch.Tensor]:
    """A function that trains ``policy`` on ``batch`` once a call, with the training loop's own update."""
    policy.train()
    optimizer = make_optimizer(policy, config.train, torch.device(config.device))
    return lambda: update(policy, policy.loss, batch, optimizer, config.train)


def batch_of(length: int, config: SpeedConfig) -> int:
    """Windows in a batch of ``length`` tokens each, so that every length has about as many tokens a batch."""
    return max(1, round(config.batch_size * config.context * TOKENS_PER_STEP / length))


def _time(models: Mapping[str, Model], context: int, config: SpeedConfig, seconds: float) -> list[TrainingEntry]:
    """Training steps on windows of ``context`` steps, all models in turn, in about ``seconds``."""
    length = TOKENS_PER_STEP * context
    batch = batch_of(length, config)
    data = windows(batch, context, config.device)
    calls = {
        name: once(training_step(make_policy(model, config, context), data, config), config.device)
        for name, model in models.items()
    }
    taken = interleave(calls, config.repeats, seconds)
    return [TrainingEntry(model=name, length=length, batch=batch, seconds=values) for name, values in taken.items()]


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Training steps at the configured context."""
    return {"training": _time(models, examiner.config.context, examiner.config, seconds)}


def measure_lengths(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Training steps over the configured lengths."""
    config = examiner.config
    share = seconds / len(config.lengths)
    return {"lengths": [one for n in config.lengths for one in _time(models, steps(n), config, share)]}
