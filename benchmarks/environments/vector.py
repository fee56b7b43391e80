"""Gymnasium environments with vector observations, for evaluation and for generating data."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.kind import (
    Camera,
    EnvironmentKind,
    Environments,
    EnvironmentSpec,
    Recorded,
    Sizes,
)
from backbench.errors import UserError, require

ROBOTICS = "gymnasium_robotics"


class GymBatch:
    """``count`` environments, stepped one after another in this process: for MuJoCo that is faster than workers.

    Observations become vectors. Actions are expected in [-1, 1] or discrete from 0, see ``spaces``.
    """

    def __init__(self, env_id: str, count: int, kwargs: Mapping[str, Any] | None = None) -> None:
        self.envs = [make_environment(env_id, kwargs) for _ in range(count)]
        self.space = self.envs[0].observation_space
        spaces.check_observations(self.space, f"environment {env_id}")
        self.actions = spaces.Actions.of(self.envs[0].action_space, f"environment {env_id}")
        self.sizes = Sizes((spaces.size(self.space),), self.actions.n, len(self.actions.low))

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        return self._vectors([env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)])

    def step(
        self, numbers: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        if not np.isfinite(actions).all():  # a simulator would accept them, and reset
            raise FloatingPointError("the agent's actions are not finite")
        answers = [
            self.envs[number].step(self.actions.to_environment(action))
            for number, action in zip(numbers, actions, strict=True)
        ]
        states, rewards, terminated, truncated, _ = zip(*answers, strict=True)
        ended = np.logical_or(terminated, truncated)
        return self._vectors(states), np.array(rewards, dtype=np.float64), ended

    def _vectors(self, states: Sequence[Any]) -> NDArray[Any]:
        return np.stack([spaces.flatten_one(self.space, state) for state in states])

    def close(self) -> None:
        for env in self.envs:
            env.close()


def make_environment(env_id: str, kwargs: Mapping[str, Any] | None = None) -> Any:
    """A Gymnasium environment as registered, with its own wrappers, but without checkers and time limit.

    ``module:Id`` imports the module first. Callers limit the steps themselves. The checkers cost as much per step as
    the physics. MuJoCo's warnings are dropped: it would write them to a file in the working folder.
    """
    import gymnasium as gym
    from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

    quiet_mujoco()
    if env_id.startswith(f"{ROBOTICS}:") and ROBOTICS not in sys.modules:
        with redirect_stderr(io.StringIO()), suppress(ImportError):  # it prints a notice in every process
            importlib.import_module(ROBOTICS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a newer version: the task fixes the version
        # -1: no time limit, not even below the environment's own wrappers.
        env = gym.make(env_id, max_episode_steps=-1, disable_env_checker=True, **dict(kwargs or {}))
    while isinstance(env, OrderEnforcing | PassiveEnvChecker | TimeLimit):
        env = env.env
    return env


def probe(env_id: str, kwargs: Mapping[str, Any] | None = None, requires: str = "", remedy: str = "") -> None:
    """Try a reset and a step, see ``EnvironmentKind.probe``."""
    module = env_id.partition(":")[0] if ":" in env_id else ""
    done = "made"
    try:
        envs = GymBatch(env_id, 1, kwargs)
        done = "played"
        envs.reset([0])
        envs.step([0], np.zeros(1, np.int64) if envs.actions.n else np.zeros((1, len(envs.actions.low)), np.float32))
        envs.close()
    except UserError:
        raise
    except ImportError as error:
        install = f"install the package of {module or error.name}, or set PYTHONPATH=. for a module in this folder"
        if requires:
            install = f"pip install 'backbench[{requires}]'"
        needed = error.name or module
        raise UserError(f"environment {env_id} needs {needed}, which is not installed: {install}") from error
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {at.name}, {Path(at.filename).name}:{at.lineno}, `{at.line}`"
        reason = " ".join(str(error).split())[:200] or where
        versions = f"gymnasium {version('gymnasium')}, mujoco {version('mujoco')}"
        raise UserError(
            f"environment {env_id} cannot be {done} here, with {versions}: {reason}{'; ' if remedy else ''}{remedy}"
        ) from error


def quiet_mujoco() -> None:
    """No rendering, and no MUJOCO_LOG.TXT in the working folder."""
    os.environ.setdefault("MUJOCO_GL", "disabled")
    import mujoco

    mujoco.set_mju_user_warning(_ignore)


def _ignore(message: str) -> None:
    """MuJoCo calls this with the text of a warning."""


class VectorKind(EnvironmentKind):
    """Gym's robots, and any Gymnasium environment of the user's whose observations are or become vectors."""

    def make(self, spec: EnvironmentSpec, count: int) -> GymBatch:
        return GymBatch(spec.env_id, count, spec.kwargs)

    def probe(self, spec: EnvironmentSpec, requires: str = "", remedy: str = "") -> None:
        probe(spec.env_id, spec.kwargs, requires, remedy)

    def sizes(self, spec: EnvironmentSpec) -> Sizes:
        batch = self.make(spec, 1)
        batch.close()
        return batch.sizes

    def check_data(self, spec: EnvironmentSpec, name: str, data: Sizes, recorded: Recorded) -> None:
        batch = self.make(spec, 1)
        batch.close()
        here, observations = batch.sizes, spaces.describe(batch.space)
        if data != here:
            raise UserError(
                f"data set {name!r} has states {data.state_shape} and {_count(data)}, environment {spec.env_id} has "
                f"states {observations} and {_count(here)}; they must be the same"
            )
        if recorded is None:
            return
        its_space, its_actions = recorded()
        bounds = spaces.Actions.of(its_actions, name)
        if spaces.describe(its_space) != observations:
            raise UserError(
                f"data set {name!r} has observations {spaces.describe(its_space)}, environment {spec.env_id} has "
                f"{observations}; they must be the same"
            )
        if not (np.allclose(bounds.low, batch.actions.low) and np.allclose(bounds.high, batch.actions.high)):
            raise UserError(
                f"data set {name!r} was recorded with actions {its_actions}, environment {spec.env_id} takes others; "
                "give the environment the data's bounds: gymnasium.wrappers.RescaleAction, in its registration"
            )

    def state_shape(self, weights: Mapping[str, Any]) -> tuple[int, ...]:
        return (len(weights["tokenizer.encoder.mean"]),)

    def camera(self, spec: EnvironmentSpec, environments: Environments) -> Camera:
        from gymnasium.envs.mujoco import MujocoEnv

        assert isinstance(environments, GymBatch)
        robot = environments.envs[0]
        require(
            isinstance(robot, MujocoEnv),
            f"environment {robot!r}: bench watch shows Atari games and Gymnasium's own MuJoCo robots only",
        )
        return Camera(float(robot.dt), lambda _: robot.data.qpos.copy())


def _count(sizes: Sizes) -> str:
    return f"{sizes.action_dim} actions" if sizes.n_actions is None else f"{sizes.n_actions} discrete actions"


VECTOR = VectorKind()
