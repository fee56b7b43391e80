"""Decisions alone, over batches and contexts, and environment steps a CPU second, simulator included."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from backbench.agents.acting import ACTING, Actor, make_actor
from backbench.agents.agent import Agent
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.fast import LAST
from backbench.benchmarks.environments.vector import GymBatch, make_environment
from backbench.benchmarks.run import evaluate
from backbench.benchmarks.speed.config import ENVIRONMENT, EPISODE, OBSERVATION, TARGET, SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, Policy, RecomputingActor, make_policy, steps
from backbench.benchmarks.speed.report import ActingEntry, Fields, LatencyEntry
from backbench.benchmarks.speed.timing import LEAST, Sampler, interleave, seconds_of

BATCHES = (1, 16, 64)
DECISIONS = 20  # in a round, at most
EPISODES = 10
PILOT = 25  # steps whose cost decides how many are timed
Play = Callable[[int], None]  # plays so many steps in environments that it makes itself


def warm_actor(policy: Policy, acting: str, states: Tensor, context: int) -> Actor:
    """An actor that has decided ``context`` times for ``states`` (batch, observation), so its window is full.

    With a window, the backbone's mixing for those decisions is skipped: nothing of it is kept.
    """
    targets = torch.zeros(len(states), device=states.device)
    if not isinstance(policy, Agent):
        recomputing = RecomputingActor(policy, targets, context)
        for _ in range(context):
            recomputing.remember(states)
            recomputing.update(targets)
        return recomputing
    actor, backbone = make_actor(policy, acting, targets, context), policy.backbone
    if acting == "window":  # it keeps what is prepared for each token alone; `mix` mixes it afresh
        nothing = torch.zeros(len(states), 1, backbone.spec.d_model, device=states.device)
        backbone.mix = lambda projected, keep=LAST: nothing  # type: ignore[method-assign]
    try:
        for _ in range(context):
            actor.act(states)
            actor.update(targets)
    finally:
        backbone.__dict__.pop("mix", None)
    return actor


def decide(actor: Actor, states: Tensor, seconds: float) -> list[float]:
    """A round of ``DECISIONS`` decisions; fewer when they take more than ``seconds``, at least three."""
    taken: list[float] = []
    while len(taken) < DECISIONS and (len(taken) < 3 or sum(taken) < seconds):
        taken.append(seconds_of(lambda: actor.act(states), states.device))
        actor.update(states.new_zeros(len(states)))
    return taken


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
            calls[name] = partial(decide, warm_actor(policy, acting, states, context), states, round_seconds)
    taken = interleave(calls, config.repeats, seconds)
    return [
        LatencyEntry(model=name, acting=acting, length=TOKENS_PER_STEP * context, batch=batch, seconds=values)
        for name, values in taken.items()
    ]


def measure_latency(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Latency over batches at the configured context, and over lengths at batch 1."""
    config = examiner.config
    over_batches = [(acting, config.context, batch) for acting in ACTING for batch in BATCHES]
    over_lengths = [(acting, steps(length), 1) for acting in ACTING for length in config.lengths]
    share = seconds / (len(over_batches) + len(over_lengths))
    return {
        name: [entry for one in group for entry in time_decisions(models, *one, config, share)]
        for name, group in (("latency", over_batches), ("latency_lengths", over_lengths))
    }


def _play_batch(agent: Agent, acting: str, config: SpeedConfig, length: int) -> None:
    """Ten episodes as one batch, as ``bench run`` evaluates."""
    play = evaluate.Play(partial(GymBatch, ENVIRONMENT), (TARGET,), EPISODES, acting, config.context, length, seed=0)
    evaluate.evaluate(agent, play, torch.device(config.device))


def _play_alone(policy: Policy, config: SpeedConfig, length: int) -> None:
    """One environment at batch 1. Every step recomputes the complete model on its window."""
    env = make_environment(ENVIRONMENT)
    try:
        state = env.reset(seed=0)[0]
        actor = RecomputingActor(policy, torch.tensor([TARGET], device=config.device), config.context)
        for _ in range(length):
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


def _cpu_seconds(play: Play, length: int) -> float:
    """Processor time of all threads."""
    began = time.process_time()
    play(length)
    return time.process_time() - began


def measure_acting(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
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
        length = int(min(EPISODE - 1, max(50, share / max(cost, 1e-6))))
        return length, lambda: [max(1e-9, _cpu_seconds(play, 1 + length) - start)]

    rounds = {way: prepared(play) for way, play in ways.items()}
    taken = interleave({way: sample for way, (_, sample) in rounds.items()}, LEAST, seconds, warm_up=0)
    entries = []
    for (name, acting), (length, _) in rounds.items():
        count = 1 if acting == "alone" else EPISODES
        entries.append(ActingEntry(model=name, acting=acting, environments=count, steps=length * count,
                                   cpu_seconds=taken[name, acting]))  # fmt: skip
    return {"acting": entries}
