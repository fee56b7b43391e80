"""Windows to measure on: a memory task's questions, and windows of other episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planning import cells

from backbench.agents.agent import Windows
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import embedded_memory
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.environments.memory.script import WAIT
from backbench.benchmarks.plan.assemble import make_agent, seen
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.studies.reach.causal import causal
from backbench.benchmarks.studies.reach.density import density
from backbench.benchmarks.studies.reach.eigenvalues import eigenvalues, time_constants
from backbench.benchmarks.studies.reach.sample import sample
from backbench.errors import UserError


def played(name: str, episodes: int = 60) -> Trajectories:
    """The first episodes of a memory task's data set."""
    *_, env = embedded_memory._environment(name)
    made = Trajectories.from_episodes((embedded_memory.play(env, number) for number in range(episodes)), name)
    return replace(made, actions=made.actions.astype(np.int64), n_actions=int(env.action_space.n))


def memory_cell(task: str) -> Cell:
    (cell,) = cells(["gru"], "memory", "smoke", [0], tasks=[task])
    return cell


@pytest.mark.parametrize("task", ["tmaze-24", "repeat-4", "copy-12", "recall-8", "parity", "count"])
def test_the_steps_to_measure_at_are_those_at_which_a_task_asks(task: str) -> None:
    cell = memory_cell(task)
    data = played(cell.task.data_id)
    clean = np.arange(0, 60, 3)  # played without noise: the oracle acts where it is asked
    asked = embedded_memory.questions(data.name, clean)
    of_oracle = data.actions.reshape(60, -1)[clean] != WAIT
    assert np.array_equal(asked, of_oracle)
    found = sample(cell, data, 32)
    assert 0 < found.at.sum() < found.windows.mask.sum()
    for states, at in zip(found.windows.states, found.at, strict=True):
        (number,) = np.flatnonzero((data.states.reshape(60, *states.shape) == states.numpy()).all((1, 2)))[:1]
        assert np.array_equal(at.numpy(), embedded_memory.questions(data.name, [number])[0])


def test_questions_are_those_of_the_steps_that_a_window_holds() -> None:
    """Windows of 6 steps that start anywhere in the 24 of an episode, which asks from step 4 on."""
    cell = memory_cell("repeat-4")
    cell = replace(cell, model=replace(cell.model, context=6), data=replace(cell.data, windows="uniform"))
    found = sample(cell, played(cell.task.data_id), 64)
    real = found.windows.mask & found.others.mask
    assert torch.equal(found.at, real & (found.windows.timesteps >= 4))
    assert found.at[:, 0].any()


def test_windows_of_other_episodes_are_of_others(
    tiny_cell: Callable[..., Cell], make_episodes: Callable[..., list[Any]]
) -> None:
    data = Trajectories.from_episodes(make_episodes([5, 40]))
    found = sample(tiny_cell(), data, 64)
    episode = torch.from_numpy(data.states[:5, 0])
    of_first, of_other = (torch.isin(each.states[:, 0, 0], episode) for each in (found.windows, found.others))
    assert 0 < of_first.sum() < 64
    assert torch.equal(of_first, ~of_other)
    assert torch.equal(found.at, found.windows.mask & found.others.mask)
    assert not found.windows.mask.all()
    again, another = sample(tiny_cell(), data, 64), sample(tiny_cell(), data, 64, seed=1)
    assert torch.equal(again.windows.states, found.windows.states)
    assert not torch.equal(another.windows.states, found.windows.states)


def test_at_most_so_many_steps_of_a_window_are_taken(
    tiny_cell: Callable[..., Cell], make_episodes: Callable[..., list[Any]]
) -> None:
    data = Trajectories.from_episodes(make_episodes([5, 7, 9, 6]))
    every, some = sample(tiny_cell(), data, 64), sample(tiny_cell(), data, 64, queries=2)
    assert torch.equal(some.at.sum(1), every.at.sum(1).clamp(max=2))
    assert not (some.at & ~every.at).any()
    assert some.at.any(0).all()
    assert torch.equal(sample(tiny_cell(), data, 64, queries=9).at, every.at)
    with pytest.raises(UserError, match="queries=-1; give 0, for all, or more"):
        sample(tiny_cell(), data, 64, queries=-1)


def test_windows_come_from_the_episodes_that_training_uses(
    tiny_cell: Callable[..., Cell], make_episodes: Callable[..., list[Any]]
) -> None:
    data = Trajectories.from_episodes(make_episodes([10] * 6))
    best = data.best(0.5)
    found = sample(tiny_cell(data__top=0.5), data, 32)
    rows = torch.cat((found.windows.states[:, 0, 0], found.others.states[:, 0, 0])).numpy()
    where = {int(np.flatnonzero(data.states[:, 0] == row)[0]) // 10 for row in rows}
    assert where == set(best.tolist())


def test_data_of_one_episode_and_no_windows_are_refused(
    tiny_cell: Callable[..., Cell], make_episodes: Callable[..., list[Any]]
) -> None:
    alone = Trajectories.from_episodes(make_episodes([30]), "mine/alone-v0")
    with pytest.raises(UserError, match=r"data set 'mine/alone-v0': no other episode .* give data of two episodes"):
        sample(tiny_cell(), alone, 4)
    with pytest.raises(UserError, match="windows=0; give at least 1"):
        sample(tiny_cell(), alone, 0)


def test_a_gym_cell_is_measured_from_its_data(hopper_store: object, tiny_cell: Callable[..., Cell]) -> None:
    cell = tiny_cell("gloma")
    data = seen(cell, store.read(cell.task.data_id))
    on, agent = sample(cell, data, 8, queries=2), make_agent(cell, data)
    assert density(agent, on.windows, on.at, on.others).share.sum() == pytest.approx(1)
    found = causal(agent, on.windows, on.others, on.at)
    assert found.flips is None
    assert found.change[0] > 0
    assert {(one.branch, one.token) for one in time_constants(agent, on.windows)} == set(
        itertools.product(("global", "local"), ("return", "state", "action"))
    )


def test_the_start_has_the_eigenvalues_of_the_cells_seed(hopper_store: object, tiny_cell: Callable[..., Cell]) -> None:
    def start(seed: int) -> list[complex]:
        cell = tiny_cell("mamba2", seed=seed)
        return eigenvalues(make_agent(cell, store.read(cell.task.data_id)))[0].values.tolist()  # type: ignore[no-any-return]

    assert start(0) == start(0) != start(1)


def test_pixels_are_measured_as_vectors_are() -> None:
    def windows(seed: int) -> Windows:
        g = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (2, 3, 4, 84, 84), generator=g, dtype=torch.uint8)
        actions, steps = torch.randint(0, 4, (2, 3), generator=g), torch.arange(3).repeat(2, 1)
        return Windows(torch.rand(2, 3, generator=g), pixels, actions, steps, torch.ones(2, 3, dtype=torch.bool))

    model = ModelSettings(d_model=16, n_layers=1, dropout=0.0, context=3, timestep="window", embedding="tanh")
    agent = build_agent("mamba", None, model, Spaces((4, 84, 84), ActionSpace(4, True), 3, 1.0))
    assert density(agent, windows(0), others=windows(1)).share.sum() == pytest.approx(1)
    found = causal(agent, windows(0), windows(1))
    assert found.change[0] > found.change[-1] == 0
