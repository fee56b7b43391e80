"""Environments for evaluation and for making data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.atari.protocol import AtariProtocol, game_of


class Environments(Protocol):
    """Environments that started together, each an episode; those that have ended are not stepped on."""

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """Start all of them; states (count, *observation)."""

    def step(
        self, numbers: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        """Step environments ``numbers`` (m,): states (m, *observation), raw rewards (m,), whether each ended (m,)."""

    def close(self) -> None:
        """Give everything back."""


def make_environments(env_id: str, count: int, atari: AtariProtocol | None) -> Environments:
    """``count`` environments of one kind; ``atari`` is the protocol of those with pixels, None for the others."""
    if atari is not None:
        from backbench.benchmarks.atari.batch import AtariBatch

        return AtariBatch(game_of(env_id), count, atari)
    return GymBatch(env_id, count)


class GymBatch:
    """Gymnasium environments, one after another in this process: for MuJoCo that is faster than workers."""

    def __init__(self, env_id: str, count: int) -> None:
        self.envs = [make_environment(env_id) for _ in range(count)]

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        return np.stack([env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)])

    def step(
        self, numbers: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        if not np.isfinite(actions).all():  # a simulator would take them, and start over
            raise FloatingPointError("the agent's actions are not finite")
        answers = [self.envs[number].step(action) for number, action in zip(numbers, actions, strict=True)]
        states, rewards, terminated, _, _ = zip(*answers, strict=True)
        return np.stack(states), np.array(rewards, dtype=np.float64), np.array(terminated, dtype=bool)

    def close(self) -> None:
        for env in self.envs:
            env.close()


def make_environment(env_id: str) -> Any:
    """A bare Gymnasium environment: no checker and no time limit, which the callers keep themselves.

    The wrappers' checks cost as much per step as the physics. MuJoCo's warnings, which it would write into a file in
    the working folder, are dropped.
    """
    import gymnasium as gym

    quiet_mujoco()
    return gym.make(env_id, disable_env_checker=True).unwrapped


def quiet_mujoco() -> None:
    """No rendering, and no MUJOCO_LOG.TXT in the working folder."""
    os.environ.setdefault("MUJOCO_GL", "disabled")
    import mujoco

    mujoco.set_mju_user_warning(_ignore)


def _ignore(message: str) -> None:
    """MuJoCo calls this with a warning's text."""
