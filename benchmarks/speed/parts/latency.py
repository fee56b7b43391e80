"""Time of a decision over batches of environments and over contexts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from backbench.agents.acting import ACTING, Actor, make_actor
from backbench.agents.agent import Agent
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.fast import LAST
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, Policy, RecomputingActor, make_policy, steps
from backbench.benchmarks.speed.report import Fields, LatencyEntry
from backbench.benchmarks.speed.timing import Sampler, interleave, seconds_of

BATCHES = (1, 16, 64)
DECISIONS = 20  # in a round, at most


def warm_actor(policy: Policy, acting: str, states: Tensor, context: int) -> Actor | RecomputingActor:
    """An actor that has decided ``context`` times for ``states`` (batch, observation), so its window is full.

    The backbone's work for those decisions is skipped: nothing of it is kept.
    """
    targets = torch.zeros(len(states), device=states.device)
    if not isinstance(policy, Agent):
        recomputing = RecomputingActor(policy, targets, context)
        for _ in range(context):
            recomputing.remember(states)
            recomputing.update(targets)
        return recomputing
    actor, backbone = make_actor(policy, acting, targets, context), policy.backbone
    if acting == "window":  # a window keeps what is projected from each token alone; `mix` mixes it afresh
        nothing = torch.zeros(len(states), 1, backbone.spec.d_model, device=states.device)
        backbone.mix = lambda projected, keep=LAST: nothing  # type: ignore[method-assign]
    try:
        for _ in range(context):
            actor.act(states)
            actor.update(targets)
    finally:
        if acting == "window":
            del backbone.mix
    return actor


def _decisions(actor: Actor | RecomputingActor, states: Tensor, seconds: float) -> Sampler:
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
    models: Mapping[str, Model], acting: str, context: int, batch: int, config: SpeedConfig, seconds: float
) -> list[LatencyEntry]:
    """Decisions for ``batch`` environments after ``context`` steps. A complete peer acts with a window only."""
    states = torch.randn(batch, OBSERVATION, generator=torch.Generator().manual_seed(0)).to(config.device)
    round_seconds = seconds / max(1, len(models)) / config.repeats
    calls = {}
    for name, model in models.items():
        policy = make_policy(model, config, context).eval()
        if acting == "window" or isinstance(policy, Agent):
            calls[name] = _decisions(warm_actor(policy, acting, states, context), states, round_seconds)
    taken = interleave(calls, config.repeats, seconds)
    return [
        LatencyEntry(model=name, acting=acting, length=TOKENS_PER_STEP * context, batch=batch, seconds=values)
        for name, values in taken.items()
    ]


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Latency over batches at the configured context, and over lengths at batch 1."""
    config = examiner.config
    over_batches = [(acting, config.context, batch) for acting in ACTING for batch in BATCHES]
    over_lengths = [(acting, steps(length), 1) for acting in ACTING for length in config.lengths]
    share = seconds / (len(over_batches) + len(over_lengths))
    return {
        name: [entry for one in group for entry in time_decisions(models, *one, config, share)]
        for name, group in (("latency", over_batches), ("latency_lengths", over_lengths))
    }
