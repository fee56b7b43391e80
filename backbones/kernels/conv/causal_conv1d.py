"""The causal depthwise convolution of Mamba: y_t[c] = bias[c] + sum_k weight[c, k] x_{t-K+1+k}[c]; x_t = 0 for t < 0.

Layout: x (batch, length, channels), weight (channels, K), bias (channels,).
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from backbench.backbones.flops import priced
from backbench.backbones.kernels.conv import naive
from backbench.backbones.kernels.dispatch import Implementation, Operation, missing, triton_missing
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.native.operators import operator
from backbench.errors import UserError


@priced(lambda x, weight, *_, **__: x.shape[0] * x.shape[1] * naive.of_conv(weight))
def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False, implementation: str = "auto"
) -> Tensor:
    """x -> y of the same shape; ``silu`` applies that activation to y. UserError: there is no such implementation."""
    entry = CAUSAL_CONV1D.pick(implementation, x)
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if entry.fused:
        return entry.function(x, weight, bias, silu)
    y = entry.function(x, weight, bias)
    return F.silu(y) if silu else y


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """PyTorch's own convolution; no faster on CPU, as its result has time innermost and slows what follows."""
    width = weight.shape[1]
    y = F.conv1d(F.pad(x.transpose(1, 2), (width - 1, 0)), weight.unsqueeze(1), bias, groups=weight.shape[0])
    return y.transpose(1, 2)


def arguments(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> loader.ConvArguments:
    """The library's view of the inputs, which must outlive the call."""
    if not x.shape[2:] == weight.shape[:1] == bias.shape:
        shapes = f"x {tuple(x.shape)}, taps {tuple(weight.shape)}, bias {tuple(bias.shape)}"
        raise ValueError(f"causal_conv1d: the shapes do not fit each other: {shapes}")
    sizes = (*x.shape, weight.shape[1], int(silu))
    return loader.ConvArguments(*sizes, loader.rows(x), weight.data_ptr(), bias.data_ptr())


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


@operator("causal_conv1d(Tensor x, Tensor weight, Tensor bias, bool silu) -> Tensor", like="x")
def _operator(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    return convolve(loader.innermost(x), weight.contiguous(), bias.contiguous(), silu)


def cpp(x: Tensor, weight: Tensor, bias: Tensor, silu: bool = False) -> Tensor:
    """Compiled for the CPU, with the activation in the same pass."""
    if torch.compiler.is_exporting():
        return _operator(x, weight, bias, silu)
    if torch.is_grad_enabled():
        return CausalConv1dCpp.apply(x, weight, bias, silu)  # type: ignore[no-any-return, no-untyped-call]
    # Without the autograd function, acting takes a third of the time.
    return convolve(loader.innermost(x), weight.contiguous(), bias.contiguous(), silu)


def package(x: Tensor, weight: Tensor, bias: Tensor, silu: bool = False) -> Tensor:
    """The CUDA kernels of Mamba's authors, for 2 to 4 taps; not deterministic backward unless asked to be."""
    from causal_conv1d import causal_conv1d_fn

    if not 2 <= weight.shape[1] <= 4:
        raise UserError(f"causal_conv1d: the package takes 2 to 4 taps, not {weight.shape[1]}; use triton or auto")
    # Its kernel for channels that lie innermost, as ours do, needs multiples of 8. The other one takes any number.
    x = x.transpose(1, 2)
    if x.shape[1] % 8 or any(stride % 8 for stride in (x.stride(0), x.stride(2))):
        x = x.clone(memory_format=torch.contiguous_format)
    y: Tensor = causal_conv1d_fn(x, weight.contiguous(), bias, activation="silu" if silu else None)
    return y.transpose(1, 2)


def triton(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Triton kernels; deterministic."""
    from backbench.backbones.kernels.conv.triton_conv import TritonConv

    return TritonConv.apply(x.contiguous(), weight.contiguous(), bias.contiguous())  # type: ignore[no-any-return, no-untyped-call]


_TYPES = (torch.float32, torch.float16, torch.bfloat16)
CAUSAL_CONV1D = Operation(
    "causal_conv1d",
    Implementation("torch", depthwise),
    Implementation("reference", naive.causal_conv1d),
    Implementation("cpp", cpp, ("cpu",), (torch.float32,), fused=True, missing=loader.missing),
    Implementation(
        "causal_conv1d", package, ("cuda",), _TYPES, False, True,
        missing("causal_conv1d", "pip install causal-conv1d --no-build-isolation"),
    ),
    Implementation("triton", triton, ("cuda",), _TYPES, missing=triton_missing),
)  # fmt: skip
