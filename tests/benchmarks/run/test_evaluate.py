"""Evaluation depends on the weights and the seed alone, and plays every episode once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from backbench.agents.agent import Agent
from backbench.benchmarks.data import store
from backbench.benchmarks.environments import vector
from backbench.benchmarks.environments.vector import GymBatch
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.evaluate import Interrupted, Play, TargetResult, evaluate

CPU = torch.device("cpu")
TARGETS = (2400.0, 0.0)


@pytest.fixture
def agent(hopper_store: object, tiny_cell: Callable[..., Cell]) -> Agent:
    cell = tiny_cell("transformer")
    made = make_agent(cell, store.read(cell.task.data_id))
    with torch.no_grad():
        made.head.project.weight.mul_(20)  # type: ignore[union-attr, operator]
    return made


def play(agent: Agent, acting: str = "window", seed: int = 3, **options: Any) -> list[TargetResult]:
    should_stop = options.pop("should_stop", lambda: False)
    settings = {"targets": TARGETS, "episodes": 3, "max_steps": 40} | options
    how = Play(partial(GymBatch, "Hopper-v5"), acting=acting, context=4, seed=seed, **settings)
    return evaluate(agent, how, CPU, should_stop)


@pytest.mark.parametrize("acting", ["window", "recurrent"])
def test_equal_seeds_give_equal_episodes(agent: Agent, acting: str) -> None:
    agent.train()
    torch.manual_seed(1)
    state, generator = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = play(agent, acting)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], generator)  # noqa: NPY002
    assert agent.training, "the mode was not put back"
    torch.manual_seed(2)
    agent.eval()
    assert play(agent, acting) == first
    assert not agent.training
    assert play(agent, acting, seed=4) != first
    assert tuple(r.target for r in first) == TARGETS
    assert all(len(r.returns) == len(r.lengths) == 3 for r in first)
    assert all(np.isfinite(r.returns).all() and r.mean == np.mean(r.returns) for r in first)


def test_an_episode_does_not_depend_on_the_others_in_its_batch(agent: Agent) -> None:
    both = play(agent)
    alone = [play(agent, targets=(target,))[0] for target in TARGETS]
    assert [r.lengths for r in alone] == [r.lengths for r in both]
    for ours, theirs in zip(alone, both, strict=True):
        assert ours.returns == pytest.approx(theirs.returns, rel=1e-4)
    few = play(agent, episodes=2)
    assert few[0].returns == pytest.approx(both[0].returns[:2], rel=1e-4)


class Spy:
    """An environment that records its calls, and ends after a length of its own."""

    made: list[Spy]

    def __init__(self, env: Any) -> None:
        self.env, self.seeds, self.actions, self.starts, self.ended, self.closed = env, [], [], [], False, False
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.life = 3 + 4 * len(Spy.made)
        Spy.made.append(self)

    def reset(self, seed: int) -> Any:
        self.seeds.append(seed)
        state, info = self.env.reset(seed=seed)
        self.starts.append(state)
        return state, info

    def step(self, action: Any) -> Any:
        assert not self.ended, "a finished environment was stepped"
        self.actions.append(action)
        state, _, _, _, info = self.env.step(action)
        self.ended = len(self.actions) == self.life
        return state, 1.0 + len(Spy.made) * 0, self.ended, False, info

    def close(self) -> None:
        self.closed = True
        self.env.close()


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    Spy.made = []
    original = vector.make_environment
    monkeypatch.setattr(vector, "make_environment", lambda env_id, kwargs: Spy(original(env_id)))
    return Spy.made


@pytest.mark.parametrize("acting", ["window", "recurrent"])
def test_ended_environments_are_not_stepped(agent: Agent, spies: list[Spy], acting: str) -> None:
    results = play(agent, acting, max_steps=18)
    assert len(spies) == 6
    lives = [min(18, 3 + 4 * i) for i in range(6)]
    assert [len(spy.actions) for spy in spies] == lives
    assert [n for r in results for n in r.lengths] == lives
    assert [v for r in results for v in r.returns] == lives, "returns went to the wrong episodes"
    assert all(len(spy.seeds) == 1 and spy.closed for spy in spies)
    assert all(np.abs(spy.actions).max() <= 1 for spy in spies)


def test_starts_are_equal_for_all_targets(agent: Agent, spies: list[Spy]) -> None:
    play(agent, max_steps=1)
    seeds = [spy.seeds[0] for spy in spies]
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds[:3])) == 3
    for one, other in zip(spies[:3], spies[3:], strict=True):
        assert np.array_equal(one.starts[0], other.starts[0])


def test_should_stop_interrupts_an_evaluation_and_closes_its_environments(agent: Agent, spies: list[Spy]) -> None:
    agent.train()
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        play(agent, should_stop=lambda: next(asked))
    assert all(len(spy.actions) == 2 and spy.closed for spy in spies)
    assert agent.training


def test_actions_that_are_not_finite_raise(agent: Agent) -> None:
    """MuJoCo would accept them, reset itself and give rewards."""
    with torch.no_grad():
        agent.head.project.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(FloatingPointError, match="not finite"):
        play(agent)
