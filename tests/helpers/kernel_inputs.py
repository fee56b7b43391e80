"""Inputs of the kernels, and the comparison of two implementations in values and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def scan_inputs(batch: int, length: int, channels: int, state: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """x, dt, A, B, C, D as they are in a model: dt from 1e-3 up, slow and fast decays."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    dt = F.softplus(2 * randn(batch, length, channels) - 4)
    A = -torch.exp(randn(channels, state))
    tensors = [
        randn(batch, length, channels),
        dt,
        A,
        randn(batch, length, state),
        randn(batch, length, state),
        randn(channels),
    ]
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


def values_and_gradients(function: Any, inputs: list[Tensor]) -> list[Tensor]:
    """The output, and the gradient of each input under a fixed random weighting of the output."""
    y = function(*inputs)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(y.dtype)
    return [y, *torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True, materialize_grads=True)]


def assert_equal(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Equal within ``tolerance`` of each tensor's largest entry."""
    for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
        error = float((a - e).detach().abs().max() / e.detach().abs().max().clamp(min=1e-3))
        assert error <= tolerance, f"tensor {index}: relative error {error:.1e}"
