"""Which episodes training uses, and which are held out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from backbench.benchmarks.data.split import split
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import SAMPLERS
from backbench.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(make_episodes: Callable[..., list[Any]]) -> Trajectories:
    return Trajectories.from_episodes(make_episodes([3 + i % 5 for i in range(60)]), "some/set-v0")


def test_fewer_episodes_are_among_more_of_them(data: Trajectories) -> None:
    for seed in range(3):
        nested = [set(split(data, 10, count, seed)[0].tolist()) for count in (1, 2, 4, 8, 16, 32, 50)]
        assert [len(one) for one in nested] == [1, 2, 4, 8, 16, 32, 50]
        assert all(few < more for few, more in pairwise(nested))


def test_seeds_vary_what_is_trained_on_and_not_what_is_held_out(data: Trajectories) -> None:
    found = [split(data, 10, 16, seed) for seed in range(8)]
    assert len({tuple(trained) for trained, _ in found}) == 8
    assert len({tuple(held) for _, held in found}) == 1
    assert np.array_equal(split(data, 10, 16, 3)[0], found[3][0]), "nothing but the seed is random"


def test_no_held_out_episode_is_trained_on(data: Trajectories) -> None:
    for seed in range(5):
        trained, held = split(data, 17, 0, seed)
        assert sorted([*trained, *held]) == list(range(60))
        assert list(held) == sorted(held), "the order of the data"


def test_the_held_out_episodes_do_not_depend_on_how_many_are_trained_on(data: Trajectories) -> None:
    every = split(data, 10, 0, 0)[1]
    assert all(np.array_equal(split(data, 10, count, 0)[1], every) for count in (1, 7, 50))


@pytest.mark.parametrize(
    ("held_out", "episodes", "said"),
    [
        (0, 61, "data.episodes=61 needs 61 episodes; data set 'some/set-v0' has 60: give fewer"),
        (20, 41, "data.held_out=20 data.episodes=41 needs 61 episodes; data set 'some/set-v0' has 60: give fewer"),
        (60, 0, "data.held_out=60 needs 61 episodes; data set 'some/set-v0' has 60: give fewer"),
    ],
)
def test_more_episodes_than_there_are_are_refused(data: Trajectories, held_out: int, episodes: int, said: str) -> None:
    with pytest.raises(UserError) as error:
        split(data, held_out, episodes, 0)
    assert str(error.value) == said


@pytest.mark.parametrize("windows", SAMPLERS)
def test_every_sampler_keeps_to_the_episodes_of_training(data: Trajectories, windows: str) -> None:
    trained, held = split(data, 10, 12, 1)
    sampler = SAMPLERS[windows](data, 7, 16, 1, CPU)
    sampler.keep_to(trained)
    starts = torch.cat([sampler.starts(step) for step in range(60)]).numpy()
    started = set((data.offsets.searchsorted(starts, side="right") - 1).tolist())
    assert not started & set(held.tolist())
    # Shuffled epochs leave out the last starts.
    assert started == set(trained.tolist()) if windows != "shifted" else started <= set(trained.tolist())


@pytest.mark.parametrize("context", [1, 2, 7, 9])
def test_tiles_hold_each_step_of_the_episodes_once(data: Trajectories, context: int) -> None:
    _, held = split(data, 10, 0, 0)
    sampler = SAMPLERS["uniform"](data, context, 16, 0, CPU)
    tiles = torch.from_numpy(sampler.tiles(held))
    windows = sampler.windows(tiles)
    found = windows.states[windows.mask].numpy()
    wanted = np.concatenate([data.states[data.offsets[e] : data.offsets[e + 1]] for e in held])  # type: ignore[index]
    assert np.array_equal(found, wanted)
    assert not (windows.timesteps[:, 0] % context).any()
