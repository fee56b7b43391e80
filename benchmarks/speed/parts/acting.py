"""Environment steps a CPU second, simulator included, and the baseline that evaluation loops are usually written as."""

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
from backbench.benchmarks.speed.equality import make
from backbench.benchmarks.speed.models import Policy, Subject, WholeWindowActor
from backbench.benchmarks.speed.report import ActingEntry
from backbench.benchmarks.speed.timing import LEAST, interleave

EPISODES = 10
PILOT = 25  # steps whose cost decides how many are timed
ALONE = "alone"


@dataclass(frozen=True)
class Play:
    """``run(n)`` plays n steps in ``environments`` environments that it makes itself."""

    environments: int
    run: Callable[[int], None]

    def cpu_seconds(self, steps: int) -> float:
        """Processor time of all threads."""
        began = time.process_time()
        self.run(steps)
        return time.process_time() - began


def _batched(agent: Agent, acting: str, context: int, device: torch.device) -> Play:
    """As ``bench run`` evaluates: ten episodes as one batch."""

    def run(steps: int) -> None:
        play = evaluate.Play(partial(GymBatch, ENVIRONMENT), (TARGET,), EPISODES, acting, context, steps, seed=0)
        evaluate.evaluate(agent, play, device)

    return Play(EPISODES, run)


def _alone(policy: Agent | Policy, context: int, device: torch.device) -> Play:
    """One environment at batch 1; the whole model goes over its window at each step."""

    def run(steps: int) -> None:
        env = make_environment(ENVIRONMENT)
        try:
            state = env.reset(seed=0)[0]
            actor = WholeWindowActor(policy, torch.tensor([TARGET], device=device), context)
            for _ in range(steps):
                action = actor.act(torch.as_tensor(state, dtype=torch.float32, device=device).unsqueeze(0))
                state, reward, *_ = env.step(action[0].cpu().numpy())
                actor.update(torch.tensor([float(reward)], device=device))
        finally:
            env.close()

    return Play(1, run)


def time_acting(
    subjects: Mapping[str, Subject], config: SpeedConfig, device: torch.device, seconds: float
) -> list[ActingEntry]:
    """Ten episodes of HalfCheetah in either protocol, and one environment alone; weights are random.

    Episodes are as long as ``seconds`` allow, from 50 to 1,000 steps. What it costs to make the environments is taken
    off, as it is paid once however long an episode is.
    """
    context = config.model.context
    plays: dict[tuple[str, str], Play] = {}
    for name, one in subjects.items():
        policy = make(one, config, context, device).eval()
        if isinstance(policy, Agent):
            plays |= {(name, acting): _batched(policy, acting, context, device) for acting in ACTING}
        plays[name, ALONE] = _alone(policy, context, device)
    share = seconds / max(1, len(plays)) / LEAST
    rounds, lengths = {}, {}
    for key, play in plays.items():
        play.cpu_seconds(2)  # the first run warms up
        start = float(np.median([play.cpu_seconds(1) for _ in range(LEAST)]))
        cost = (play.cpu_seconds(1 + PILOT) - start) / PILOT
        lengths[key] = int(min(EPISODE - 1, max(50, share / max(cost, 1e-6))))

        def sample(play: Play = play, start: float = start, steps: int = lengths[key]) -> list[float]:
            return [max(1e-9, play.cpu_seconds(1 + steps) - start)]

        rounds["\n".join(key)] = sample
    taken = interleave(rounds, LEAST, seconds, warm_up=0)
    return [
        ActingEntry(
            subject=name,
            acting=acting,  # type: ignore[arg-type]
            environments=plays[name, acting].environments,
            steps=lengths[name, acting] * plays[name, acting].environments,
            cpu_seconds=taken[f"{name}\n{acting}"],
        )
        for name, acting in plays
    ]
