"""The causal depthwise convolution in C++, with its activation, by the compiled kernels of ``native``."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbench.backbones.kernels.native import loader


def arguments(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> loader.ConvArguments:
    """The library's view of the inputs, which must outlive the call."""
    batch, length, channels = x.shape
    if weight.shape[:1] != (channels,) or bias.shape != (channels,):
        shapes = f"x {tuple(x.shape)}, taps {tuple(weight.shape)}, bias {tuple(bias.shape)}"
        raise ValueError(f"causal_conv1d: the shapes do not fit each other: {shapes}")
    taps = weight.shape[1]
    return loader.ConvArguments(
        *(batch, length, channels, taps, int(silu)), loader.rows(x), weight.data_ptr(), bias.data_ptr()
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    """y, without gradients; ``x`` is :func:`loader.innermost`, ``weight`` and ``bias`` are contiguous."""
    y = torch.empty(x.shape)
    loader.run("conv_forward", ctypes.byref(arguments(x, weight, bias, silu)), y.data_ptr())
    return y


class CausalConv1dCpp(torch.autograd.Function):
    """y. The backward pass recomputes the values before the activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
        x, weight, bias = loader.innermost(x), weight.contiguous(), bias.contiguous()
        y = convolve(x, weight, bias, silu)
        ctx.save_for_backward(x, weight, bias)
        ctx.silu = silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dy = loader.innermost(dy)
        groups = loader.library().backbench_groups(len(x))
        dx = torch.empty(x.shape)
        dweight, dbias = torch.zeros(groups, *weight.t().shape), torch.zeros(groups, len(bias))
        inputs = arguments(x, weight, bias, ctx.silu)
        backward = loader.ConvBackward(inputs, loader.rows(dy), *(t.data_ptr() for t in (dx, dweight, dbias)))
        loader.run("conv_backward", ctypes.byref(backward))
        return dx, dweight.sum(0).t(), dbias.sum(0), None
