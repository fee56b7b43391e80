"""Environment steps a CPU second, simulator included, and the baseline: one environment with the complete model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from backbench.agents.acting import ACTING
from backbench.agents.agent import Agent
from backbench.benchmarks.environments.vector import GymBatch, make_environment
from backbench.benchmarks.run import evaluate
from backbench.benchmarks.speed.config import ENVIRONMENT, EPISODE, TARGET, SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, Policy, RecomputingActor, make_policy
from backbench.benchmarks.speed.report import ActingEntry, Fields
from backbench.benchmarks.speed.timing import LEAST, Sampler, interleave

EPISODES = 10
PILOT = 25  # steps whose cost decides how many are timed
Play = Callable[[int], None]  # plays so many steps in environments that it makes itself


def _play_batch(agent: Agent, acting: str, config: SpeedConfig, steps: int) -> None:
    """Ten episodes as one batch, as ``bench run`` evaluates."""
    play = evaluate.Play(partial(GymBatch, ENVIRONMENT), (TARGET,), EPISODES, acting, config.context, steps, seed=0)
    evaluate.evaluate(agent, play, torch.device(config.device))


def _play_alone(policy: Policy, config: SpeedConfig, steps: int) -> None:
    """One environment at batch 1. Every step recomputes the complete model on its window."""
    env = make_environment(ENVIRONMENT)
    try:
        state = env.reset(seed=0)[0]
        actor = RecomputingActor(policy, torch.tensor([TARGET], device=config.device), config.context)
        for _ in range(steps):
            action = actor.act(torch.as_tensor(state, dtype=torch.float32, device=config.device).unsqueeze(0))
            state, reward, *_ = env.step(action[0].cpu().numpy())
            actor.update(torch.tensor([float(reward)], device=config.device))
    finally:
        env.close()


def _ways(models: Mapping[str, Model], config: SpeedConfig) -> dict[tuple[str, str], Play]:
    """Model and acting (window, recurrent or alone) -> how it plays."""
    found: dict[tuple[str, str], Play] = {}
    for name, model in models.items():
        policy = make_policy(model, config, config.context).eval()
        if isinstance(policy, Agent):
            found |= {(name, acting): partial(_play_batch, policy, acting, config) for acting in ACTING}
        found[name, "alone"] = partial(_play_alone, policy, config)
    return found


def _cpu_seconds(play: Play, steps: int) -> float:
    """Processor time of all threads."""
    began = time.process_time()
    play(steps)
    return time.process_time() - began


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Ten episodes of HalfCheetah in either protocol, and one environment alone. Weights are random.

    Episodes are as long as ``seconds`` allow, from 50 to 1,000 steps. The time to make the environments is subtracted:
    it is paid once, however long an episode is.
    """
    ways = _ways(models, examiner.config)
    share = seconds / max(1, len(ways)) / LEAST

    def prepared(play: Play) -> tuple[int, Sampler]:
        """Steps of an episode, and a round of one timed episode."""
        _cpu_seconds(play, 2)  # the first run warms up
        start = float(np.median([_cpu_seconds(play, 1) for _ in range(LEAST)]))
        cost = (_cpu_seconds(play, 1 + PILOT) - start) / PILOT
        steps = int(min(EPISODE - 1, max(50, share / max(cost, 1e-6))))
        return steps, lambda: [max(1e-9, _cpu_seconds(play, 1 + steps) - start)]

    rounds = {way: prepared(play) for way, play in ways.items()}
    taken = interleave({way: sample for way, (_, sample) in rounds.items()}, LEAST, seconds, warm_up=0)
    entries = []
    for (name, acting), (length, _) in rounds.items():
        count = 1 if acting == "alone" else EPISODES
        entries.append(ActingEntry(model=name, acting=acting, environments=count, steps=length * count,
                                   cpu_seconds=taken[name, acting]))  # fmt: skip
    return {"acting": entries}
