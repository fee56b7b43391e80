"""The control without memory: each token is treated alone."""

from typing import ClassVar

from torch import Tensor

from backbench.backbones.contract import Mixer, State


class Identity(Mixer):
    """No mixing: the output is the input. Only the stack's feed-forward networks learn, on each token alone.

    The agent predicts an action from the state's token, so it knows neither the requested return nor the past.
    """

    summary: ClassVar[str] = "Control without memory: each token alone"

    def forward(self, x: Tensor) -> Tensor:
        return x

    def initial_state(self, batch: int, device: object = None, dtype: object = None) -> State:
        """Empty."""
        return ()

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return x_t, state

    def flops(self, length: int) -> float:
        return 0.0
