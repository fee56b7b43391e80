"""What mixers around one diagonal recurrence share: `forward`, a recurrent step, and the state."""

from typing import Any

import torch
from torch import Tensor

from backbench.backbones.contract import ALL, Mixer, State
from backbench.backbones.kernels.diagonal.diagonal_recurrence import diagonal_recurrence


class DiagonalMixer(Mixer):
    """A subclass says what enters the recurrence and what leaves it. Work and state do not grow with the context.

    The state is h, (batch, channels), or (batch, channels, 2) with real and imaginary parts if h is complex.
    """

    channels: int  # of the recurrence
    complex_states: bool = False

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, length, d_model) -> decays a and inputs b of the recurrence, both of a's type."""
        raise NotImplementedError(f"{type(self).__name__} must define enter")  # abstract: each mixer has its own

    def leave(self, h: Tensor, x: Tensor) -> Tensor:
        """States (batch, kept, channels) and the inputs x of the same positions -> outputs (batch, kept, d_model)."""
        raise NotImplementedError(f"{type(self).__name__} must define leave")  # abstract: each mixer has its own

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_at(x, ALL)

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """All positions pass the recurrence. Only ``keep`` leave it."""
        h = diagonal_recurrence(*self.enter(x), implementation=self.options.kernels)
        return self.leave(h[:, keep], x[:, keep])

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """Zeros: nothing was seen."""
        like = next(self.parameters())
        shape = (batch, self.channels, 2) if self.complex_states else (batch, self.channels)
        return torch.zeros(shape, device=device or like.device, dtype=dtype or like.dtype)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Further tokens, (batch, count, d_model), after ``state``: O(1) work per token."""
        before = torch.view_as_complex(state) if self.complex_states else state
        h = diagonal_recurrence(*self.enter(x), before, self.options.kernels)
        last = torch.view_as_real(h[:, -1]) if self.complex_states else h[:, -1]
        return self.leave(h[:, keep], x[:, keep]), last.to(state.dtype)
