"""The control without memory: each token is treated alone."""

from __future__ import annotations

from torch import Tensor

from backbench.backbones.contract import Mixer, State


class Identity(Mixer):
    """No mixing: the mixer hands on its input, and what learns is the stack's feed-forward networks, a token at a time.

    An action that is read from the state's token then knows that state, and neither the return asked for nor the past.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x

    def initial_state(self, batch: int, device: object = None, dtype: object = None) -> State:
        """Nothing is carried."""
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return x_t, state
