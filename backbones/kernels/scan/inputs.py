"""The inputs of the selective scan."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ScanInputs(NamedTuple):
    """All that a selective scan takes, see :mod:`backbench.backbones.kernels.scan.selective_scan`."""

    x: Tensor  # (batch, length, channels)
    dt: Tensor  # (batch, length, channels), positive, or anything if ``softplus``
    A: Tensor  # (channels, state), negative
    B: Tensor  # (batch, length, state)
    C: Tensor  # (batch, length, state)
    D: Tensor  # (channels,)
    window: int | None = None  # tokens that are remembered; None for all
    gate: Tensor | None = None  # (batch, length, channels): y is multiplied by silu(gate)
    softplus: bool = False  # whether softplus is still to be applied to dt

    def want_gradients(self) -> bool:
        """Whether autograd records an operation on these inputs."""
        tensors = (*self[:6], self.gate)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
