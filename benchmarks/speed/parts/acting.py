"""Environment steps a CPU second, simulator included, and the baseline: one environment with the complete model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from backbench.benchmarks.speed.timing import LEAST, interleave

EPISODES = 10
PILOT = 25  # steps whose cost decides how many are timed


@dataclass(frozen=True)
class Acting:
    """One way of acting of a model. ``run(n)`` plays n steps in ``environments`` environments that it makes itself."""

    model: str
    acting: str  # window, recurrent or alone
    environments: int
    run: Callable[[int], None]

    def cpu_seconds(self, steps: int) -> float:
        """Processor time of all threads."""
        began = time.process_time()
        self.run(steps)
        return time.process_time() - began


def _batched(agent: Agent, acting: str, config: SpeedConfig) -> Callable[[int], None]:
    """Ten episodes as one batch, as ``bench run`` evaluates."""

    def run(steps: int) -> None:
        device = torch.device(config.device)
        play = evaluate.Play(partial(GymBatch, ENVIRONMENT), (TARGET,), EPISODES, acting, config.context, steps, seed=0)
        evaluate.evaluate(agent, play, device)

    return run


def _alone(policy: Policy, config: SpeedConfig) -> Callable[[int], None]:
    """One environment at batch 1. Every step recomputes the complete model on its window."""

    def run(steps: int) -> None:
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

    return run


def _ways(models: Mapping[str, Model], config: SpeedConfig) -> list[Acting]:
    found = []
    for name, model in models.items():
        policy = make_policy(model, config, config.context).eval()
        if isinstance(policy, Agent):
            found += [Acting(name, acting, EPISODES, _batched(policy, acting, config)) for acting in ACTING]
        found.append(Acting(name, "alone", 1, _alone(policy, config)))
    return found


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Ten episodes of HalfCheetah in either protocol, and one environment alone. Weights are random.

    Episodes are as long as ``seconds`` allow, from 50 to 1,000 steps. The time to make the environments is subtracted:
    it is paid once, however long an episode is.
    """
    ways = _ways(models, examiner.config)
    share = seconds / max(1, len(ways)) / LEAST
    rounds, lengths = {}, []
    for i, way in enumerate(ways):
        way.cpu_seconds(2)  # the first run warms up
        start = float(np.median([way.cpu_seconds(1) for _ in range(LEAST)]))
        cost = (way.cpu_seconds(1 + PILOT) - start) / PILOT
        lengths.append(int(min(EPISODE - 1, max(50, share / max(cost, 1e-6)))))

        def sample(way: Acting = way, start: float = start, steps: int = lengths[i]) -> list[float]:
            return [max(1e-9, way.cpu_seconds(1 + steps) - start)]

        rounds[i] = sample
    taken = interleave(rounds, LEAST, seconds, warm_up=0)
    return {
        "acting": [
            ActingEntry(model=way.model, acting=way.acting, environments=way.environments,
                        steps=lengths[i] * way.environments, cpu_seconds=taken[i])
            for i, way in enumerate(ways)
        ]
    }  # fmt: skip
