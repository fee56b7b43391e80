"""The causal depthwise convolution of Mamba: y_t[c] = bias[c] + sum_k weight[c, k] x_{t-K+1+k}[c]; x_t = 0 for t < 0.

Layout: x (batch, length, channels), weight (channels, K), bias (channels,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.dispatch import Operation

Conv: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
CAUSAL_CONV1D: Operation[Conv] = Operation("causal_conv1d")


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, *, implementation: str = "auto") -> Tensor:
    """(batch, length, channels) -> the same shape. Raises UserError if there is no such implementation."""
    return CAUSAL_CONV1D.pick(implementation, x)(x, weight.to(x.dtype), bias.to(x.dtype))


def causal_conv1d_step(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token, x (batch, channels), after ``state``, the K-1 before it, (batch, K-1, channels): y, next state."""
    seen = torch.cat((state, x.unsqueeze(1)), dim=1)
    return (seen * weight.t()).sum(1) + bias, seen[:, 1:]


@CAUSAL_CONV1D.add("torch")
def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """PyTorch's own convolution; no faster on CPU, as its result has time innermost and slows what follows."""
    width = weight.shape[1]
    y = F.conv1d(F.pad(x.transpose(1, 2), (width - 1, 0)), weight.unsqueeze(1), bias, groups=weight.shape[0])
    return y.transpose(1, 2)


@CAUSAL_CONV1D.add("reference")
def reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The definition: one shifted, scaled copy for each tap."""
    length, width = x.shape[1], weight.shape[1]
    padded = F.pad(x, (0, 0, width - 1, 0))
    y = bias + padded[:, :length] * weight[:, 0]
    for k in range(1, width):
        y = torch.addcmul(y, padded[:, k : k + length], weight[:, k])
    return y
