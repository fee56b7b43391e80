"""Environments for evaluation and for making data."""

from __future__ import annotations

import os
from typing import Any


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
