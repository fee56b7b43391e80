"""The causal depthwise convolution of Mamba: y_t[c] = bias[c] + sum_k weight[c, k] x_{t-K+1+k}[c]; x_t = 0 for t < 0.

Layout: x (batch, length, channels), weight (channels, K), bias (channels,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels import accelerators
from backbench.backbones.kernels.conv.cpp_conv import CausalConv1dCpp, convolve
from backbench.backbones.kernels.dispatch import Operation
from backbench.backbones.kernels.native import loader

Conv: TypeAlias = Callable[..., Tensor]  # (x, weight, bias), and silu where it is fused
CAUSAL_CONV1D: Operation[Conv] = Operation("causal_conv1d")


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False, implementation: str = "auto"
) -> Tensor:
    """(batch, length, channels) -> the same shape; ``silu`` applies that activation to y.

    Raises:
        UserError: there is no such implementation.
    """
    entry = CAUSAL_CONV1D.pick(implementation, x)
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if entry.fused:
        return entry.function(x, weight, bias, silu)
    y = entry.function(x, weight, bias)
    return F.silu(y) if silu else y


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


@CAUSAL_CONV1D.add("cpp", devices=("cpu",), dtypes=(torch.float32,), fused=True, missing=loader.missing)
def cpp(x: Tensor, weight: Tensor, bias: Tensor, silu: bool = False) -> Tensor:
    """Compiled for the CPU, with the activation in the same pass."""
    if torch.is_grad_enabled():
        return CausalConv1dCpp.apply(x, weight, bias, silu)  # type: ignore[no-any-return, no-untyped-call]
    return convolve(
        loader.innermost(x), weight.contiguous(), bias.contiguous(), silu
    )  # a third of the time, when acting


_TYPES = (torch.float32, torch.float16, torch.bfloat16)
CAUSAL_CONV1D.add(
    "causal_conv1d",
    devices=("cuda",),
    dtypes=_TYPES,
    auto=False,
    fused=True,
    missing=accelerators.causal_conv1d_missing,
)(accelerators.causal_conv1d_package)
CAUSAL_CONV1D.add("triton", devices=("cuda",), dtypes=_TYPES, missing=accelerators.triton_missing)(
    accelerators.triton_conv
)
