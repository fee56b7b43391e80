"""Evaluation: all targets and episodes as one batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.vector import Environments, make_environments


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
    atari: AtariProtocol | None = None,
    clip_rewards: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    make: Callable[[str, int, AtariProtocol | None, Mapping[str, Any] | None], Environments] | None = None,
) -> list[TargetResult]:
    """Play ``episodes`` episodes for each target.

    Episode i starts from the same seed whatever its target, so that targets are compared on equal starts. Environments
    that are finished are not stepped on, and their rows leave the batch. Deterministic from ``seed``; torch's global
    generator is left alone. Where actions are drawn, episode i has random numbers of its own, which do not depend on
    when the others end.

    Args:
        agent: put into evaluation mode and back.
        env_id, atari, env_kwargs: the environment; its protocol where it shows pixels; what else it is made with.
        targets: target returns; with ``clip_rewards``, on the scale of rewards that are clipped to [-1, 1].
        episodes, acting, context, max_steps, seed: of the protocol.
        device: of the agent.
        should_stop: asked before every step.
        clip_rewards: clipped rewards come off the return-to-go. Returns are raw in any case.
        make: makes the environments, when not ``make_environments``.

    Raises:
        Interrupted: ``should_stop`` answered true.
        FloatingPointError: an action was NaN or infinite.
    """
    was_training = agent.training
    agent.eval()
    starts = [int(s) for s in np.random.SeedSequence(seed).generate_state(episodes)]
    goals = [t for t in targets for _ in range(episodes)]
    draws = [np.random.default_rng([seed, number % episodes]) for number in range(len(goals))]
    returns, lengths = np.zeros(len(goals)), np.zeros(len(goals), dtype=int)
    envs = (make or make_environments)(env_id, len(goals), atari, env_kwargs)
    try:
        states = envs.reset([starts[number % episodes] for number in range(len(goals))])
        actor = make_actor(agent, acting, torch.tensor(goals, device=device), context)
        running = list(range(len(goals)))
        for _ in range(max_steps):
            if should_stop():
                raise Interrupted
            batch = torch.as_tensor(states, dtype=torch.uint8 if states.dtype == np.uint8 else torch.float32)
            uniforms = torch.tensor([draws[n].random() for n in running]) if agent.head.draws else None
            chosen = actor.act(batch.to(device), uniforms)
            actions = (chosen.float() if chosen.is_floating_point() else chosen).cpu().numpy()
            states, rewards, ended = envs.step(running, actions)
            returns[running] += rewards
            lengths[running] += 1
            earned = np.clip(rewards, -1.0, 1.0) if clip_rewards else rewards
            actor.update(torch.tensor(earned, dtype=torch.float32, device=device))
            if ended.all():
                break
            if ended.any():
                going = np.flatnonzero(~ended)
                actor.keep(torch.tensor(going, device=device))
                states, running = states[going], [running[row] for row in going]
    finally:
        envs.close()
        agent.train(was_training)
    return [
        TargetResult(
            float(target),
            tuple(float(r) for r in returns[i * episodes : (i + 1) * episodes]),
            tuple(int(n) for n in lengths[i * episodes : (i + 1) * episodes]),
        )
        for i, target in enumerate(targets)
    ]
