"""Optional methods that make a backbone faster. The defaults are correct, so a new backbone needs none of them.

``keep`` is a slice of the positions whose outputs are needed. Override a method to skip the work for the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from backbench.backbones.state import ALL, State


class FastCausal(nn.Module):
    """For mixers and backbones. Acting keeps what `project` returns from window to window."""

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """``forward(x)[:, keep]``, (batch, kept, d_model). Default: compute everything, then slice."""
        y: Tensor = self(x)
        if y.shape != x.shape:  # slicing would hide it
            name = type(self).__name__
            raise RuntimeError(f"{name}.forward returned {tuple(y.shape)} for {tuple(x.shape)}; return the same size")
        return y[:, keep]

    def extend(self: Any, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Several tokens, (batch, count, d_model): the outputs of `step` at ``keep``, and the state. Default: steps."""
        columns = []
        for x_t in x.unbind(1):
            y_t, state = self.step(x_t, state)
            columns.append(y_t)
        return torch.stack(columns[keep], 1), state

    def project(self, x: Tensor) -> State:
        """The part of `forward` that depends on each token alone: tensors (batch, length, …). Default: the tokens."""
        return x

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        """The rest of `forward`: ``mix(project(x), keep)`` is ``forward(x)[:, keep]``. Override both or neither."""
        return self.forward_at(projected, keep)
