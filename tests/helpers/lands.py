"""A user's own environments, for tests of a user's own suites. Importing this module registers them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Walk(gym.Env[Any, Any]):
    """A point on a line that walks to its goal. Goal observations; actions in [-3, 5], of which 1 stands still."""

    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-99, 99, (2,), np.float64),
            "desired_goal": spaces.Box(-99, 99, (1,), np.float64),
            "achieved_goal": spaces.Box(-99, 99, (1,), np.float64),
        }
    )
    action_space = spaces.Box(-3.0, 5.0, (1,), np.float32)

    def __init__(self, goal: float = 10.0, patience: int = 0) -> None:
        self.goal, self.patience = goal, patience

    def _see(self) -> dict[str, Any]:
        return {
            "observation": np.array([self.x, self.v]),
            "desired_goal": np.array([self.goal]),
            "achieved_goal": np.array([self.x]),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.v, self.steps = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self._see(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.v = float(action[0]) - 1.0
        self.x += self.v
        self.steps += 1
        truncated = bool(self.patience) and self.steps >= self.patience
        return self._see(), -abs(self.goal - self.x) / 10, abs(self.goal - self.x) < 0.5, truncated, {}


class Doubled(gym.RewardWrapper[Any, Any], gym.utils.RecordConstructorArgs):
    """Rewards times two: a wrapper that belongs to the environment."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reward(self, reward: Any) -> Any:
        return 2 * reward


def doubled(**kwargs: Any) -> gym.Env[Any, Any]:
    """An entry point that returns a wrapped environment."""
    return Doubled(Walk(**kwargs))


gym.register("Walk-v0", entry_point=Walk, max_episode_steps=7)
gym.register("DoubledWalk-v0", entry_point=doubled, max_episode_steps=7)
gym.register(
    "SteepWalk-v0",
    entry_point=Walk,
    max_episode_steps=7,
    additional_wrappers=(Doubled.wrapper_spec(),),
)
