"""Time of a decision over batches of environments and over contexts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from backbench.agents.acting import Actor, make_actor
from backbench.agents.agent import Agent
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.models import Model, Policy, WholeWindowActor, make_policy, steps
from backbench.benchmarks.speed.report import LatencyEntry
from backbench.benchmarks.speed.timing import Sampler, interleave, seconds_of

BATCHES = (1, 16, 64)
DECISIONS = 20  # in a round, at most


@dataclass(frozen=True)
class Situation:
    """When decisions are timed: ``batch`` environments, after ``context`` steps."""

    acting: Literal["window", "recurrent"]
    context: int
    batch: int


def warm_actor(policy: Policy, acting: str, states: Tensor, context: int) -> Actor:
    """An actor that has decided ``context`` times for ``states`` (batch, observation), so its window is full.

    The backbone's work for those decisions is skipped: nothing of it is kept.
    """
    targets = torch.zeros(len(states), device=states.device)
    if not isinstance(policy, Agent):
        whole = WholeWindowActor(policy, targets, context)
        for _ in range(context):
            whole.remember(states)
            whole.update(targets)
        return whole
    actor, backbone = make_actor(policy, acting, targets, context), policy.backbone
    if acting == "window":  # a window keeps what is prepared for each token alone; `last` mixes it afresh
        nothing = torch.zeros(len(states), backbone.spec.d_model, device=states.device)
        backbone.last = lambda prepared: nothing  # type: ignore[method-assign]
    try:
        for _ in range(context):
            actor.act(states)
            actor.update(targets)
    finally:
        if acting == "window":
            del backbone.last
    return actor


def _decisions(actor: Actor, states: Tensor, seconds: float) -> Sampler:
    """A round of ``DECISIONS`` decisions; fewer when they take more than ``seconds``, at least three."""
    rewards = torch.zeros(len(states), device=states.device)

    def sample() -> list[float]:
        taken: list[float] = []
        while len(taken) < DECISIONS and (len(taken) < 3 or sum(taken) < seconds):
            taken.append(seconds_of(lambda: actor.act(states), states.device))
            actor.update(rewards)
        return taken

    return sample


def time_decisions(
    models: Mapping[str, Model], when: Situation, config: SpeedConfig, seconds: float
) -> list[LatencyEntry]:
    """Decisions of all models in one situation. A peer that is a complete model acts with a window only."""
    states = torch.randn(when.batch, OBSERVATION, generator=torch.Generator().manual_seed(0)).to(config.device)
    round_seconds = seconds / max(1, len(models)) / config.repeats
    calls = {}
    for name, model in models.items():
        policy = make_policy(model, config, when.context).eval()
        if when.acting == "window" or isinstance(policy, Agent):
            calls[name] = _decisions(warm_actor(policy, when.acting, states, when.context), states, round_seconds)
    taken = interleave(calls, config.repeats, seconds)
    length = TOKENS_PER_STEP * when.context
    return [
        LatencyEntry(model=name, acting=when.acting, length=length, batch=when.batch, seconds=values)
        for name, values in taken.items()
    ]


def time_latency(
    models: Mapping[str, Model], config: SpeedConfig, seconds: float
) -> tuple[list[LatencyEntry], list[LatencyEntry]]:
    """Latency over batches at the configured context, and over lengths at batch 1."""
    both: tuple[Literal["window"], Literal["recurrent"]] = ("window", "recurrent")
    batches = [Situation(acting, config.context, batch) for acting in both for batch in BATCHES]
    lengths = [Situation(acting, steps(length), 1) for acting in both for length in config.lengths]
    share = seconds / (len(batches) + len(lengths))
    over_batches, over_lengths = (
        [entry for when in group for entry in time_decisions(models, when, config, share)]
        for group in (batches, lengths)
    )
    return over_batches, over_lengths
