"""Evaluation: all targets and episodes as one batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from backbench.agents.acting import ACTING, make_actor
from backbench.agents.agent import Agent
from backbench.backbones.contract import Backbone, Spec
from backbench.benchmarks.environments.kind import Environments
from backbench.benchmarks.plan.settings import Cell

OTHER_STARTS = 2**32  # added to the seed of an evaluation that is not scored


class Interrupted(Exception):
    """The run was asked to stop. Its checkpoint contains what it had reached."""


@dataclass(frozen=True)
class Play:
    """How to play the episodes of an evaluation."""

    make: Callable[[int], Environments]  # a batch of that many environments
    targets: tuple[float, ...]  # target returns; of clipped rewards if clip_rewards
    episodes: int  # for each target
    acting: str  # protocol, window or recurrent
    context: int  # K, steps of a window
    max_steps: int  # longest episode
    seed: int  # of the environments and of sampled actions
    timestep: str = "first"  # of a window's tokens, see WindowActor
    clip_rewards: bool = False  # rewards clipped to [-1, 1] reduce the return-to-go; results are raw in any case

    @classmethod
    def of(cls, cell: Cell, targets: tuple[float, ...]) -> Play:
        """How ``cell`` is evaluated."""
        return cls(
            make=partial(cell.kind.make, cell.environment), targets=targets, episodes=cell.eval.episodes,
            acting=cell.eval.acting, context=cell.model.context, max_steps=cell.max_steps, seed=cell.eval.seed,
            timestep=cell.eval.timestep, clip_rewards=cell.task.rewards == "clipped",
        )  # fmt: skip

    @classmethod
    def for_curve(cls, cell: Cell, targets: tuple[float, ...]) -> Play:
        """How ``cell`` is evaluated during training, on its first target."""
        scored, episodes = cls.of(cell, targets[:1]), cell.eval.curve_episodes
        return replace(scored, episodes=episodes, seed=scored.seed + OTHER_STARTS) if episodes else scored


@dataclass(frozen=True)
class Longer:
    """An evaluation on longer episodes."""

    times: int  # the data's length
    play: Play
    lag: int | None  # most steps from what an answer needs to the answer; None if the environment does not say

    def evaluate(self, agent: Agent, device: torch.device, should_stop: Callable[[], bool]) -> TargetResult:
        """As the function does, with a backbone whose windows are as many times longer when it carries state, too."""
        with widened(agent.backbone, self.times):
            return evaluate(agent, self.play, device, should_stop)[0]

    @classmethod
    def all_of(cls, cell: Cell, targets: tuple[float, ...]) -> list[Longer]:
        """Those of a cell: each length in each protocol of acting, on the first target and the scored starts."""
        scored, found = Play.of(cell, targets[:1]), []
        for times in cell.eval.lengths:
            spec = cell.stretched(times)
            longer = replace(
                scored,
                make=partial(cell.kind.make, spec),
                context=scored.context * times,
                max_steps=scored.max_steps * times,
            )
            lag = cell.kind.lag(spec)
            found += [cls(times, replace(longer, acting=acting), lag) for acting in ACTING]
        return found


@contextmanager
def widened(backbone: Backbone, times: int) -> Iterator[None]:
    """Within it, what every part of ``backbone`` keeps of the past is ``times`` as long."""
    parts = [(part, spec) for part in backbone.modules() if isinstance(spec := getattr(part, "spec", None), Spec)]
    try:
        for part, spec in parts:
            vars(part)["spec"] = replace(spec, max_length=spec.max_length * times)
        yield
    finally:
        for part, spec in parts:
            vars(part)["spec"] = spec


@dataclass(frozen=True)
class TargetResult:
    """Episodes played for one target return: raw returns and lengths in steps, (episodes,) each."""

    target: float
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean raw return."""
        return float(np.mean(self.returns))


def evaluate(
    agent: Agent, play: Play, device: torch.device, should_stop: Callable[[], bool] = lambda: False
) -> list[TargetResult]:
    """Play ``play.episodes`` episodes for each target.

    Episode i has the same seed for every target, so that targets are compared on equal starts. Results depend on
    ``play.seed`` alone. Torch's global generator is unused. ``agent`` is on ``device``; it is put into evaluation mode
    and back. Raises ``Interrupted`` if ``should_stop``, asked before every step, returned true, and
    ``FloatingPointError`` if an action was NaN or infinite.
    """
    goals = [target for target in play.targets for _ in range(play.episodes)]
    numbers = [i % play.episodes for i in range(len(goals))]
    starts = [int(s) for s in np.random.SeedSequence(play.seed).generate_state(play.episodes)]
    # Each episode has its own random numbers for sampled actions: they do not depend on when the others end.
    generators = [np.random.default_rng([play.seed, number]) for number in numbers]
    returns, lengths = np.zeros(len(goals)), np.zeros(len(goals), dtype=np.int64)
    with ExitStack() as stack:
        stack.callback(agent.train, agent.training)
        agent.eval()
        envs = stack.enter_context(closing(play.make(len(goals))))
        states = envs.reset([starts[number] for number in numbers])
        actor = make_actor(agent, play.acting, torch.tensor(goals, device=device), play.context, play.timestep)
        running = list(range(len(goals)))
        for _ in range(play.max_steps):
            if should_stop():
                raise Interrupted
            batch = torch.as_tensor(states, dtype=torch.uint8 if states.dtype == np.uint8 else torch.float32)
            uniforms = torch.tensor([generators[n].random() for n in running]) if agent.head.draws else None
            chosen = actor.act(batch.to(device), uniforms)
            actions = (chosen.float() if chosen.is_floating_point() else chosen).cpu().numpy()
            states, rewards, ended = envs.step(running, actions)
            returns[running] += rewards
            lengths[running] += 1
            earned = np.clip(rewards, -1.0, 1.0) if play.clip_rewards else rewards
            actor.update(torch.tensor(earned, dtype=torch.float32, device=device))
            if ended.all():
                break
            if ended.any():  # those are not stepped again, and their rows leave the batch
                going = np.flatnonzero(~ended)
                actor.keep(torch.tensor(going, device=device))
                states, running = states[going], [running[row] for row in going]
    rows = zip(play.targets, *(n.reshape(-1, play.episodes).tolist() for n in (returns, lengths)), strict=True)
    return [TargetResult(float(target), tuple(won), tuple(steps)) for target, won, steps in rows]
