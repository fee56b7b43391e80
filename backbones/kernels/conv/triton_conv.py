"""The causal depthwise convolution in Triton, for CUDA: channels innermost, and no atomic operations.

A program handles one batch row, a block of time and a block of channels. It sums in float32, whatever the inputs are.
The gradients of taps and bias are sums over batch and time. Each program writes its own part, and the parts are summed
afterwards in a fixed order, so the bits are the same from run to run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_T, BLOCK_C = 32, 64


@triton.jit
def _forward(
    x, weight, bias, y, length, channels, WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * length  # 64 bits from here on: offsets may pass 2**31
    t = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    total += tl.load(bias + c, mask=in_c, other=0.0).to(tl.float32)[None, :]
    for k in tl.static_range(WIDTH):
        s = t - (WIDTH - 1 - k)
        seen = ((s >= 0) & (s < length))[:, None] & in_c[None, :]
        x_s = tl.load(x + (first + s)[:, None] * channels + c[None, :], mask=seen, other=0.0).to(tl.float32)
        total += x_s * tl.load(weight + c * WIDTH + k, mask=in_c, other=0.0).to(tl.float32)[None, :]
    inside = (t < length)[:, None] & in_c[None, :]
    tl.store(y + (first + t)[:, None] * channels + c[None, :], total, mask=inside)


@triton.jit
def _backward(
    x, weight, dy, dx, dweight, dbias, length, channels,
    WIDTH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * length
    partial = (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * channels
    t = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    inside = (t < length)[:, None] & in_c[None, :]
    dy_t = tl.load(dy + (first + t)[:, None] * channels + c[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(dbias + partial + c, tl.sum(dy_t, axis=0), mask=in_c)
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for k in tl.static_range(WIDTH):
        shift = WIDTH - 1 - k
        s = t - shift
        seen = ((s >= 0) & (s < length))[:, None] & in_c[None, :]
        x_s = tl.load(x + (first + s)[:, None] * channels + c[None, :], mask=seen, other=0.0).to(tl.float32)
        tl.store(dweight + (partial + c) * WIDTH + k, tl.sum(dy_t * x_s, axis=0), mask=in_c)
        r = t + shift
        reached = (r < length)[:, None] & in_c[None, :]
        dy_r = tl.load(dy + (first + r)[:, None] * channels + c[None, :], mask=reached, other=0.0).to(tl.float32)
        total += dy_r * tl.load(weight + c * WIDTH + k, mask=in_c, other=0.0).to(tl.float32)[None, :]
    tl.store(dx + (first + t)[:, None] * channels + c[None, :], total, mask=inside)


class TritonConv(torch.autograd.Function):
    """(x, weight, bias) contiguous, of one floating type -> y; see :mod:`.causal_conv1d`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        batch, length, channels = x.shape
        y = torch.empty_like(x)
        grid = (batch, triton.cdiv(length, BLOCK_T), triton.cdiv(channels, BLOCK_C))
        with torch.cuda.device_of(x):
            _forward[grid](
                x, weight, bias, y, length, channels,
                WIDTH=weight.shape[1], BLOCK_T=BLOCK_T, BLOCK_C=BLOCK_C, enable_fp_fusion=True,
            )  # fmt: skip
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        batch, length, channels = x.shape
        width = weight.shape[1]
        grid = (batch, triton.cdiv(length, BLOCK_T), triton.cdiv(channels, BLOCK_C))
        dx = torch.empty_like(x)
        dweight = x.new_empty(batch * grid[1], channels, width, dtype=torch.float32)
        dbias = x.new_empty(batch * grid[1], channels, dtype=torch.float32)
        with torch.cuda.device_of(x):
            _backward[grid](
                x, weight, dy.contiguous(), dx, dweight, dbias, length, channels,
                WIDTH=width, BLOCK_T=BLOCK_T, BLOCK_C=BLOCK_C, enable_fp_fusion=True,
            )  # fmt: skip
        return dx, dweight.sum(0).to(x.dtype), dbias.sum(0).to(x.dtype)
