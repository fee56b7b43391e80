"""Policies of Atari games: their ladder, and their measured returns."""

from __future__ import annotations

from pathlib import Path

import atari_policies
import numpy as np
from policy_kind import load_rows
from ram_policies import made_up

from backbench.benchmarks.data.policies.ram import RamPolicy
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES


def test_ladder_takes_the_snapshots_nearest_to_its_rungs(trained: Path, logged_returns: None) -> None:
    """Rungs at 1 + 99 x (0.1, 0.25, 0.5, 0.75) = 10.9, 25.75, 50.5, 75.25."""
    folder = trained / "breakout"
    chosen = atari_policies.AtariPolicies().choose("breakout", folder, load_rows(folder), {"noop_unit": 1})
    steps = {name: row["steps"] for name, row in chosen.items()}
    assert steps == {"replay0": 0, "replay1": 3, "replay2": 5, "replay3": 6, "replay4": 8, "expert": 10}
    assert len(chosen["expert"]["plays"]) == 2


def test_measured_returns_equal_those_of_playing_by_hand() -> None:
    policy = RamPolicy.from_arrays(made_up(4))
    measured = atari_policies.measure("breakout", policy, (1.0, 0.5), 4, 2, 5)
    emulator, rng = Emulator("breakout", pixels=False), np.random.default_rng(5)
    returns, steps = [], 0
    for _ in range(2):
        emulator.reset(4 * int(rng.integers(1, 8)))
        rewards, over = [], False
        while not over:
            reward, over = emulator.step(int(policy.act(emulator.ram()[None], [rng], 1.0, 0.5)[0]))
            rewards.append(reward)
        returns.append(sum(rewards))
        steps += len(rewards)
    assert measured == {
        "temperature": 1.0,
        "epsilon": 0.5,
        "episodes": 2,
        "return_mean": round(np.mean(returns), 1),
        "return_std": round(np.std(returns), 1),
        "return_min": min(returns),
        "return_max": max(returns),
        "length_mean": round(steps / 2),
    }


def test_every_game_has_a_recipe() -> None:
    assert set(atari_policies.RECIPES) == set(GAMES)
    assert {recipe["noop_unit"] for recipe in atari_policies.RECIPES.values()} == {1, 4}
