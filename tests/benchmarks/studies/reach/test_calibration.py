"""What trained agents look at: known from the task, and found by the measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.benchmarks.data.sources.embedded_memory import FIRST_SEED, play
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import EpisodeSampler
from backbench.benchmarks.environments.memory.script import MemoryTask
from backbench.benchmarks.environments.memory.tasks import Repeat, TMaze
from backbench.benchmarks.studies.reach.causal import causal
from backbench.benchmarks.studies.reach.density import attention_distances, density

UPDATES, BATCH, EPISODES = 300, 32, 300
TASKS: dict[str, MemoryTask] = {
    "repeat-2": Repeat(2, 10), "repeat-2-seen": Repeat(2, 10, seen=True),
    "tmaze-8": TMaze(8), "tmaze-8-seen": TMaze(8, seen=True),
}  # fmt: skip


@cache
def trained(backbone: str, task: str) -> tuple[Agent, Windows, Windows, Tensor]:
    """An agent that has learned a task in about a second, two batches of windows, and the steps that ask."""
    env = TASKS[task]
    data = Trajectories.from_episodes(play(env, 3 * number) for number in range(EPISODES))  # those without noise
    data = replace(data, actions=data.actions.astype(np.int64), n_actions=int(env.action_space.n))
    torch.manual_seed(0)
    model = ModelSettings(d_model=16, n_layers=1, dropout=0.0, context=env.steps, tokens="s")
    mean, std = map(torch.from_numpy, data.state_statistics())
    spaces = Spaces(data.state_shape, ActionSpace(int(env.action_space.n), True), env.steps, 1.0, (mean, std))
    agent = build_agent(backbone, None, model, spaces)
    sampler = EpisodeSampler(data, env.steps, BATCH, 0, torch.device("cpu"))
    optimizer = torch.optim.AdamW(agent.parameters(), lr=5e-3)
    for step in range(UPDATES):
        loss = agent.loss(sampler.batch(step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    env.reset(seed=FIRST_SEED)
    asked = torch.from_numpy(env.asked).expand(BATCH, -1)
    windows = sampler.batch(UPDATES)
    right = agent.eval()(windows.returns_to_go, windows.states, windows.actions, windows.timesteps).argmax(-1)
    assert float((right == windows.actions)[asked].float().mean()) == 1, "the agent did not learn its task"
    return agent, windows, sampler.batch(UPDATES + 1), asked


CASES = [("gru", "repeat-2", 2), ("gru", "tmaze-8", 7), ("mamba", "repeat-2", 2), ("mamba", "tmaze-8", 7)]
TWINS = [("gru", "repeat-2-seen", 0), ("mamba", "tmaze-8-seen", 0)]


@pytest.mark.parametrize(("backbone", "task", "lag"), [*CASES, *TWINS])
def test_the_past_is_needed_up_to_the_lag_of_the_task(backbone: str, task: str, lag: int) -> None:
    agent, windows, others, asked = trained(backbone, task)
    found = causal(agent, windows, others, asked)
    assert found.effect.argmax() == lag
    assert found.effect[lag] > 0.3
    assert np.delete(found.effect, lag) == pytest.approx(0, abs=0.02)
    assert found.flips is not None
    assert found.flips[lag] > 0.3
    assert found.loss[lag] > 1
    assert found.flips[lag + 1] == found.flips[-1] == 0


@pytest.mark.parametrize(("backbone", "task", "lag"), [*CASES, *TWINS])
def test_density_between_two_episodes_peaks_at_the_lag_of_the_task(backbone: str, task: str, lag: int) -> None:
    agent, windows, others, asked = trained(backbone, task)
    found = density(agent, windows, asked, others)
    assert found.share.argmax() == lag
    assert found.share[lag] > 0.5
    assert found.holds(0.5) == lag


@pytest.mark.parametrize(
    ("backbone", "task", "lag"), [("transformer", "repeat-2", 2), ("mamba", "repeat-2", 2), *TWINS]
)
def test_density_by_gradients_peaks_at_the_lag_of_the_task(backbone: str, task: str, lag: int) -> None:
    agent, windows, _, asked = trained(backbone, task)
    assert density(agent, windows, asked).share.argmax() == lag


def test_density_by_gradients_misses_what_a_saturated_state_holds() -> None:
    """The limit of gradients: this agent answers right, from the cue alone."""
    agent, windows, _, asked = trained("gru", "tmaze-8")
    found = density(agent, windows, asked)
    assert found.share[7] < 0.1
    assert found.share.argmax() == 0


def test_attention_is_where_the_symbol_was() -> None:
    agent, windows, _, asked = trained("transformer", "repeat-2")
    assert attention_distances(agent, windows, asked)[0].steps == pytest.approx(2, abs=0.5)
