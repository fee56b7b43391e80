"""From a cell and its data to the agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planning import cells as planned

from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.assemble import make_agent, max_timesteps
from backbench.benchmarks.plan.settings import Cell


@pytest.fixture
def long(make_episodes: Callable[..., list[Any]]) -> Trajectories:
    """Data with an episode of 300 steps."""
    return Trajectories.from_episodes(make_episodes([30, 300]))


def limited(cell: Cell, task: int, asked: int = 0) -> Cell:
    return replace(cell, task=replace(cell.task, max_steps=task), eval=replace(cell.eval, max_steps=asked))


@pytest.mark.parametrize(
    ("task", "asked", "rows"),
    [(30, 0, 300), (30, 10, 300), (1000, 0, 1000), (30, 500, 500)],
    ids=["data", "data, shorter evaluation", "task", "evaluation"],
)
def test_the_timestep_table_covers_data_and_evaluation(
    tiny_cell: Callable[..., Cell], long: Trajectories, task: int, asked: int, rows: int
) -> None:
    cell = limited(tiny_cell(), task, asked)
    assert max_timesteps(cell, long) == rows
    assert len(make_agent(cell, long).tokenizer.embed_timestep.weight) == rows


def test_every_step_of_the_data_has_a_row_of_its_own(tiny_cell: Callable[..., Cell], long: Trajectories) -> None:
    """Nine tenths of these steps once shared the last row."""
    cell = limited(tiny_cell(), 30)
    agent = make_agent(cell, long)
    assert int(long.lengths.max()) <= len(agent.tokenizer.embed_timestep.weight)


def test_a_game_s_table_is_as_long_as_its_data_s_longest_episode(long: Trajectories) -> None:
    (cell, *_) = planned(["mlp"], "atari", "smoke", [0])
    assert max_timesteps(cell, long) == 300


def test_cells_whose_data_fit_keep_the_task_s_limit(hopper_store: Path, tiny_cell: Callable[..., Cell]) -> None:
    cell = tiny_cell()
    assert max_timesteps(cell, store.read(cell.task.data_id)) == cell.task.max_steps == 1000
