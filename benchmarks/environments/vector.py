"""Gymnasium environments with vector observations, for evaluation and for generating data."""

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stderr, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments import kind, memory, spaces
from backbench.benchmarks.environments.observe import PLAYED, Observe, See
from backbench.errors import UserError, require

ROBOTICS = "gymnasium_robotics"


class GymBatch:
    """``count`` environments, stepped one after another in this process: for MuJoCo that is faster than workers.

    Observations become vectors, which ``observe`` filters. Actions are expected in [-1, 1] or discrete from 0, see
    ``spaces``.
    """

    def __init__(
        self, env_id: str, count: int, kwargs: Mapping[str, Any] | None = None, observe: Observe | None = None
    ) -> None:
        self.envs = [make_environment(env_id, kwargs) for _ in range(count)]
        self.space = self.envs[0].observation_space
        spaces.check_observations(self.space, f"environment {env_id}")
        self.actions = spaces.Actions.of(self.envs[0].action_space, f"environment {env_id}")
        self.observe = observe or Observe()
        self.full = spaces.size(self.space)  # numbers in an observation before the filter
        size = self.observe.size(self.full, f"environment {env_id}")
        self.as_they_are = self.observe == Observe() and spaces.are_vectors(self.space)
        self.sizes = kind.Sizes((size,), self.actions.n, len(self.actions.low))
        self.views: list[See] = []  # the filter of each running episode

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        states = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]
        self.views = [self.observe.episode(PLAYED, seed) for seed in seeds]
        return self._vectors(range(len(states)), states)

    def step(self, numbers: Sequence[int], actions: NDArray[Any]) -> kind.Stepped:
        if not np.isfinite(actions).all():  # a simulator would accept them, and reset
            raise FloatingPointError("the agent's actions are not finite")
        pairs = zip(numbers, actions, strict=True)
        answers = [self.envs[number].step(self.actions.to_environment(action)) for number, action in pairs]
        states, rewards, terminated, truncated, _ = zip(*answers, strict=True)
        seen = self._vectors(numbers, states)
        return seen, np.array(rewards, dtype=np.float64), np.logical_or(terminated, truncated)

    def _vectors(self, numbers: Sequence[int], states: Sequence[Any]) -> NDArray[Any]:
        if self.as_they_are:  # a sixth of a step's time in HalfCheetah
            return np.array(states)
        vectors = (spaces.flatten(self.space, state, one=True)[None] for state in states)
        return np.concatenate([self.views[number](one) for number, one in zip(numbers, vectors, strict=True)])

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
    memory.register()  # Gymnasium does so itself only where the package is installed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a newer version: the task fixes the version
        # -1: no time limit, not even below the environment's own wrappers.
        env = gym.make(env_id, max_episode_steps=-1, disable_env_checker=True, **dict(kwargs or {}))
    while isinstance(env, OrderEnforcing | PassiveEnvChecker | TimeLimit):
        env = env.env
    return env


def quiet_mujoco() -> None:
    """No rendering, and no MUJOCO_LOG.TXT in the working folder."""
    os.environ.setdefault("MUJOCO_GL", "disabled")
    import mujoco

    mujoco.set_mju_user_warning(lambda message: None)


class VectorKind(kind.EnvironmentKind):
    """Gym's robots, and any Gymnasium environment of the user's whose observations are or become vectors."""

    def make(self, spec: kind.EnvironmentSpec, count: int) -> GymBatch:
        return GymBatch(spec.env_id, count, spec.kwargs, spec.observe)

    def probe(self, spec: kind.EnvironmentSpec, requires: str = "", remedy: str = "") -> None:
        module, done = spec.env_id.rpartition(":")[0], "made"
        try:
            env = GymBatch(spec.env_id, 1, spec.kwargs)
            done = "played"
            env.reset([0])
            env.step([0], np.zeros(1 if env.actions.n else (1, env.sizes.action_dim), np.float32))
            env.close()
        except UserError:
            raise
        except ImportError as error:
            install = f"install the package of {module or error.name}, or set PYTHONPATH=. for a module in this folder"
            if requires:
                install = f"pip install 'backbench[{requires}]'"
            needed = f"environment {spec.env_id} needs {error.name or module}"
            raise UserError(f"{needed}, which is not installed: {install}") from error
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in {at.name}, {Path(at.filename).name}:{at.lineno}, `{at.line}`"
            reason = " ".join(str(error).split())[:200] or where
            raise UserError(
                f"environment {spec.env_id} cannot be {done} here, with gymnasium {version('gymnasium')}, "
                f"mujoco {version('mujoco')}: {reason}{'; ' if remedy else ''}{remedy}"
            ) from error

    def lag(self, spec: kind.EnvironmentSpec) -> int | None:
        found = getattr(make_environment(spec.env_id, spec.kwargs).unwrapped, "needed_lag", None)
        return found if isinstance(found, int) else None

    def sizes(self, spec: kind.EnvironmentSpec) -> kind.Sizes:
        with closing(self.make(spec, 1)) as batch:
            return batch.sizes

    def check_data(self, spec: kind.EnvironmentSpec, name: str, data: kind.Sizes, recorded: kind.Recorded) -> None:
        with closing(self.make(spec, 1)) as batch:
            observations = spaces.describe(batch.space)
        require(
            data == batch.sizes._replace(state_shape=(batch.full,)),
            f"data set {name!r} has states {data.state_shape} and {_count(data)}, environment {spec.env_id} has "
            f"states {observations} and {_count(batch.sizes)}; they must be the same",
        )
        if recorded is None:
            return
        its_space, its_actions = recorded()
        bounds, its_observations = spaces.Actions.of(its_actions, name), spaces.describe(its_space)
        require(
            its_observations == observations,
            f"data set {name!r} has observations {its_observations}, environment {spec.env_id} has {observations}; "
            "they must be the same",
        )
        require(
            np.allclose(bounds.low, batch.actions.low) and np.allclose(bounds.high, batch.actions.high),
            f"data set {name!r} was recorded with actions {its_actions}, environment {spec.env_id} takes others; "
            "give the environment the data's bounds: gymnasium.wrappers.RescaleAction, in its registration",
        )

    def state_shape(self, weights: Mapping[str, Any]) -> tuple[int, ...]:
        return (len(weights["tokenizer.encoder.mean"]),)

    def conventions(self, spec: kind.EnvironmentSpec) -> dict[str, Any]:
        seen = spec.observe
        return {**spec.kwargs, **({"observe": {"keep": [*seen.keep], "missing": seen.missing}} if seen else {})}

    def camera(self, spec: kind.EnvironmentSpec, environments: kind.Environments) -> kind.Camera:
        from gymnasium.envs.mujoco import MujocoEnv

        assert isinstance(environments, GymBatch)
        robot = environments.envs[0]
        require(
            isinstance(robot, MujocoEnv),
            f"environment {spec.env_id}: bench watch shows Atari games and Gymnasium's own MuJoCo robots only",
        )
        return kind.Camera(float(robot.dt), lambda _: robot.data.qpos.copy())


def _count(sizes: kind.Sizes) -> str:
    return f"{sizes.action_dim} actions" if sizes.n_actions is None else f"{sizes.n_actions} discrete actions"


VECTOR = VectorKind()
