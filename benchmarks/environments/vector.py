"""Environments for evaluation and for making data."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.atari.protocol import AtariProtocol, game_of
from backbench.errors import UserError

ROBOTICS = "gymnasium_robotics"


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


def make_environments(
    env_id: str, count: int, atari: AtariProtocol | None, kwargs: Mapping[str, Any] | None = None
) -> Environments:
    """``count`` environments of one kind; ``atari`` is the protocol of those with pixels, None for the others.

    ``kwargs`` are what an environment without pixels is made with.
    """
    if atari is not None:
        from backbench.benchmarks.environments.atari.batch import AtariBatch

        return AtariBatch(game_of(env_id), count, atari)
    return GymBatch(env_id, count, kwargs)


class GymBatch:
    """Gymnasium environments, one after another in this process: for MuJoCo that is faster than workers.

    Observations become vectors and actions come in [-1, 1] or numbered from 0, see ``spaces``.
    """

    def __init__(self, env_id: str, count: int, kwargs: Mapping[str, Any] | None = None) -> None:
        self.envs = [make_environment(env_id, kwargs) for _ in range(count)]
        self.space = self.envs[0].observation_space
        spaces.check_observations(self.space, f"environment {env_id}")
        self.actions = spaces.Actions.of(self.envs[0].action_space, f"environment {env_id}")

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        return self._vectors([env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)])

    def step(
        self, numbers: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        if not np.isfinite(actions).all():  # a simulator would take them, and start over
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
    """A Gymnasium environment as it was registered, with its own wrappers, but no checker and no time limit.

    ``module:Id`` imports the module first. The callers keep the time limit themselves. The checks of the wrappers that
    are left out cost as much per step as the physics. MuJoCo's warnings, which it would write into a file in the
    working folder, are dropped.
    """
    import gymnasium as gym
    from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

    quiet_mujoco()
    if env_id.startswith(f"{ROBOTICS}:") and ROBOTICS not in sys.modules:
        with redirect_stderr(io.StringIO()), suppress(ImportError):  # it prints a notice in every process
            importlib.import_module(ROBOTICS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer version; which one it is belongs to the task
        # -1: no time limit, not even below wrappers that it was registered with.
        env = gym.make(env_id, max_episode_steps=-1, disable_env_checker=True, **dict(kwargs or {}))
    while isinstance(env, OrderEnforcing | PassiveEnvChecker | TimeLimit):
        env = env.env
    return env


def probe(env_id: str, kwargs: Mapping[str, Any] | None = None, requires: str = "", known: str = "") -> None:
    """See whether an environment can be made and played here: a reset and a step.

    ``requires`` names the extra of Backbench that brings it; ``known`` is what helps where it cannot be made.

    Raises:
        UserError: it cannot; says why, and what to do.
    """
    module = env_id.partition(":")[0] if ":" in env_id else ""
    try:
        envs = GymBatch(env_id, 1, kwargs)
    except UserError:
        raise
    except ImportError as error:
        remedy = f"install what brings {module or error.name}, or say PYTHONPATH=. for a module in this folder"
        if requires:
            remedy = f"pip install 'backbench[{requires}]'"
        raise UserError(
            f"environment {env_id} needs {error.name or module}, which is not installed: {remedy}"
        ) from error
    except Exception as error:
        raise UserError(_cannot(env_id, "be made", error, known)) from error
    try:
        envs.reset([0])
        envs.step([0], np.zeros(1, np.int64) if envs.actions.n else np.zeros((1, len(envs.actions.low)), np.float32))
    except Exception as error:
        raise UserError(_cannot(env_id, "be played", error, known)) from error
    finally:
        envs.close()


def _cannot(env_id: str, what: str, error: Exception, known: str) -> str:
    from importlib.metadata import version

    at = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {at.name}, {Path(at.filename).name}:{at.lineno}"
    reason = " ".join(str(error).split())[:200] or f"{place}, `{at.line}`"
    versions = f"gymnasium {version('gymnasium')}, mujoco {version('mujoco')}"
    return f"environment {env_id} cannot {what} here, with {versions}: {reason}{'; ' if known else ''}{known}"


def quiet_mujoco() -> None:
    """No rendering, and no MUJOCO_LOG.TXT in the working folder."""
    os.environ.setdefault("MUJOCO_GL", "disabled")
    import mujoco

    mujoco.set_mju_user_warning(_ignore)


def _ignore(message: str) -> None:
    """MuJoCo calls this with a warning's text."""
