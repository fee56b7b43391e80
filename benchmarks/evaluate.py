"""Evaluation: all targets and episodes as one batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.benchmarks.environments import make_environment


class Interrupted(Exception):
    """The run was asked to stop; what was reached is in the checkpoint."""


@dataclass(frozen=True)
class TargetResult:
    """Episodes played towards one target return: raw returns and lengths in steps, (episodes,) each."""

    target: float
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean raw return."""
        return float(np.mean(self.returns))


def evaluate(
    agent: Agent,
    env_id: str,
    targets: Sequence[float],
    episodes: int,
    acting: str,
    context: int,
    max_steps: int,
    seed: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TargetResult]:
    """Play ``episodes`` episodes for each target.

    Episode i starts from the same seed whatever its target, so that targets are compared on equal starts. Environments
    that are finished are not stepped on, and their rows leave the batch. Deterministic from ``seed``; torch's global
    generator is left alone.

    Raises:
        Interrupted: ``should_stop`` answered true.
        FloatingPointError: an action was NaN or infinite.
    """
    was_training = agent.training
    agent.eval()
    starts = [int(s) for s in np.random.SeedSequence(seed).generate_state(episodes)]
    goals = [t for t in targets for _ in range(episodes)]
    envs = [make_environment(env_id) for _ in goals]
    returns, lengths = np.zeros(len(goals)), np.zeros(len(goals), dtype=int)
    try:
        states = [env.reset(seed=starts[i % episodes])[0] for i, env in enumerate(envs)]
        actor = make_actor(agent, acting, torch.tensor(goals, device=device), context)
        running = list(range(len(goals)))
        for _ in range(max_steps):
            if should_stop():
                raise Interrupted
            batch = torch.as_tensor(np.stack(states), dtype=torch.float32).to(device)
            actions = actor.act(batch).float().cpu().numpy()
            if not np.isfinite(actions).all():  # a simulator would take them, and start over
                raise FloatingPointError("the agent's actions are not finite")
            going, rewards, states = [], [], []
            for row, (number, action) in enumerate(zip(running, actions, strict=True)):
                state, reward, terminated, _, _ = envs[number].step(action)
                returns[number] += float(reward)
                lengths[number] += 1
                rewards.append(float(reward))
                if not terminated:
                    going.append(row)
                    states.append(state)
            actor.update(torch.tensor(rewards, dtype=torch.float32, device=device))
            if not going:
                break
            if len(going) < len(running):
                actor.keep(torch.tensor(going, device=device))
                running = [running[row] for row in going]
    finally:
        for env in envs:
            env.close()
        agent.train(was_training)
    return [
        TargetResult(
            float(target),
            tuple(float(r) for r in returns[i * episodes : (i + 1) * episodes]),
            tuple(int(n) for n in lengths[i * episodes : (i + 1) * episodes]),
        )
        for i, target in enumerate(targets)
    ]
