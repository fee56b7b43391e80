"""What an agent needs to know about an environment and its data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ActionSpace:
    """``size`` is the number of discrete actions, or the dimension of a continuous one."""

    size: int
    discrete: bool = False
    # A discrete action is sampled from softmax(logits / temperature). 0 takes the likeliest.
    temperature: float = 1.0


@dataclass(frozen=True)
class Spaces:
    """Shapes, scales and statistics."""

    # (size,) of state vectors, or (stack, height, width) of pixels.
    state_shape: tuple[int, ...]
    actions: ActionSpace
    # Rows of the timestep table: the longest episode, in steps.
    max_timesteps: int
    # Returns-to-go are divided by it.
    return_scale: float
    # Mean and standard deviation of state vectors, (size,) each. Default: 0 and 1. Unused for pixels.
    statistics: tuple[Tensor, Tensor] | None = None
