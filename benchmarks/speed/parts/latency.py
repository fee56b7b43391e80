"""The time of a decision: over batches of environments, and over contexts."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from backbench.agents.acting import ACTING, Actor
from backbench.agents.agent import Agent
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.equality import make
from backbench.benchmarks.speed.models import Subject, steps, warm_actor
from backbench.benchmarks.speed.report import LatencyEntry
from backbench.benchmarks.speed.timing import Sampler, interleave, synchronise

BATCHES = (1, 16, 64)
DECISIONS = 20  # in a round, at most


def _decisions(actor: Actor, states: torch.Tensor, seconds: float) -> Sampler:
    """A round: up to ``DECISIONS`` decisions, fewer when they take more than ``seconds``, at least three."""
    rewards = torch.zeros(len(states), device=states.device)

    def sample() -> list[float]:
        taken: list[float] = []
        while len(taken) < DECISIONS and (len(taken) < 3 or sum(taken) < seconds):
            synchronise(states.device)
            began = time.perf_counter()
            actor.act(states)
            synchronise(states.device)
            taken.append(time.perf_counter() - began)
            actor.update(rewards)
        return taken

    return sample


def time_decisions(
    subjects: Mapping[str, Subject],
    acting: str,
    context: int,
    batch: int,
    config: SpeedConfig,
    device: torch.device,
    seconds: float,
) -> list[LatencyEntry]:
    """Decisions for ``batch`` environments after ``context`` steps; a peer that is a whole model has only a window."""
    states = torch.randn(batch, OBSERVATION, generator=torch.Generator().manual_seed(0)).to(device)
    round_seconds = seconds / max(1, len(subjects)) / config.repeats
    calls = {}
    for name, one in subjects.items():
        policy = make(one, config, context, device).eval()
        if acting == "window" or isinstance(policy, Agent):
            calls[name] = _decisions(warm_actor(policy, acting, states, context), states, round_seconds)
    taken = interleave(calls, config.repeats, seconds)
    length = TOKENS_PER_STEP * context
    return [
        LatencyEntry(subject=name, acting=acting, length=length, batch=batch, seconds=values)  # type: ignore[arg-type]
        for name, values in taken.items()
    ]


def time_latency(
    subjects: Mapping[str, Subject], config: SpeedConfig, device: torch.device, seconds: float
) -> tuple[list[LatencyEntry], list[LatencyEntry]]:
    """Latency over batches at the headline's length, and over lengths at batch 1."""
    settings = [(acting, config.model.context, batch) for acting in ACTING for batch in BATCHES]
    over = [(acting, steps(length), 1) for acting in ACTING for length in config.lengths]
    share = seconds / (len(settings) + len(over))
    batches, lengths = (
        [entry for one in group for entry in time_decisions(subjects, *one, config, device, share)]
        for group in (settings, over)
    )
    return batches, lengths
