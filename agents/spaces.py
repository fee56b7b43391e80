"""What an agent needs to know about an environment and its data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ActionSpace:
    """Discrete or continuous actions."""

    size: int  # number of discrete actions, or dimension of a continuous one
    discrete: bool = False
    temperature: float = 1.0  # discrete actions are sampled from softmax(logits / temperature); 0: the likeliest one


@dataclass(frozen=True)
class Spaces:
    """Shapes, scales and statistics."""

    state_shape: tuple[int, ...]  # (size,) of state vectors, or (stack, height, width) of pixels
    actions: ActionSpace
    max_timesteps: int  # rows of the timestep table: the longest episode, in steps
    return_scale: float  # returns-to-go are divided by it
    statistics: tuple[Tensor, Tensor] | None = None  # mean and std of state vectors, (size,) each; default 0 and 1
