"""The selective scan in Triton, for CUDA: one kernel forward, one backward, and no atomic operations.

A program handles one batch row and a block of channels, and loops over time with the state in registers. It writes
gradients that are sums over channel blocks (dB, dC) or over the batch (dA, dD) to partial buffers. These are summed
afterwards in a fixed order, so every bit is the same from run to run.

With a window w, state and gradient are those of the last w tokens alone:

    h_t = exp(dt_t A) h_{t-1} - exp(S_t A) v_{t-w} + v_t,                   v_t = dt_t x_t B_t
    g_t = exp(dt_{t+1} A) g_{t+1} - exp(S_{t+w} A) C_{t+w} dy_{t+w} + C_t dy_t

with S_t the sum of dt over t-w+1..t. The forgotten part is computed from the inputs, so no states are stored for it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable


@triton.jit
def _past(
    h, x, dt, B, sums, a, dt_t, token, t, channels, state, window, c, n, WINDOWED: tl.constexpr
):  # fmt: skip
    """What token t sees of earlier tokens: h_{t-1} decayed, minus the token that just left the window."""
    past = tl.exp(dt_t[:, None] * a) * h
    if WINDOWED:
        # With a window of one token nothing is left, but the difference below would leave rounding errors.
        # The masks are bounds because in Triton 3.9's interpreter "vector & scalar" does not have a mask's type.
        in_c, in_n = c < tl.where(t >= window, channels, 0), n < tl.where(t >= window, state, 0)
        old = token - window
        total = tl.load(sums + token * channels + c, mask=in_c, other=0.0)
        x_old = tl.load(x + old * channels + c, mask=in_c, other=0.0)
        dt_old = tl.load(dt + old * channels + c, mask=in_c, other=0.0)
        B_old = tl.load(B + old * state + n, mask=in_n, other=0.0)
        past -= tl.exp(total[:, None] * a) * ((dt_old * x_old)[:, None] * B_old[None, :])
        past = tl.where(window > 1, past, 0.0)
    return past


@triton.jit
def _forward(
    x, dt, A, B, C, D, sums, y, starts, length, channels, state, window, chunk, chunks,
    WINDOWED: tl.constexpr, SAVE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)  # 64 bits from here on: offsets may pass 2**31
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.arange(0, BLOCK_N)
    in_c, in_n = c < channels, n < state
    tile = c[:, None] * state + n[None, :]
    in_tile = in_c[:, None] & in_n[None, :]
    a = tl.load(A + tile, mask=in_tile, other=0.0)
    skip = tl.load(D + c, mask=in_c, other=0.0)
    h = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    for k in range(0, chunks):
        if SAVE:
            tl.store(starts + (b * chunks + k) * channels * state + tile, h, mask=in_tile)
        for t in range(k * chunk, tl.minimum((k + 1) * chunk, length)):
            token = b * length + t
            x_t = tl.load(x + token * channels + c, mask=in_c, other=0.0)
            dt_t = tl.load(dt + token * channels + c, mask=in_c, other=0.0)
            B_t = tl.load(B + token * state + n, mask=in_n, other=0.0)
            C_t = tl.load(C + token * state + n, mask=in_n, other=0.0)
            past = _past(h, x, dt, B, sums, a, dt_t, token, t, channels, state, window, c, n, WINDOWED)
            h = past + (dt_t * x_t)[:, None] * B_t[None, :]
            y_t = tl.sum(h * C_t[None, :], axis=1) + skip * x_t
            tl.store(y + token * channels + c, y_t, mask=in_c)


@triton.jit
def _backward(
    x, dt, A, B, C, D, sums, starts, dy, pasts, dx, ddt, dA, dB, dC, dD,
    length, channels, state, window, chunk, chunks, blocks,
    WINDOWED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradients, chunk by chunk from the last. The states of a chunk are recomputed from its first one.

    The exponents' gradient q_r sums over the pairs of tokens s < r <= t that see each other. Without a window it is the
    past of h_r times g_r. With one it is updated: at r the pairs that end there are added, those that begin there
    subtracted. A token's effect on itself is in neither, so fast decays leave little to sum. Rounding errors of q stay,
    and dA, the sum of all dt_r q_r, would accumulate them. So dA comes from the derivative of g by A, where they decay.
    """
    b = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    c = block * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.arange(0, BLOCK_N)
    in_c, in_n = c < channels, n < state
    tile = c[:, None] * state + n[None, :]
    in_tile = in_c[:, None] & in_n[None, :]
    a = tl.load(A + tile, mask=in_tile, other=0.0)
    skip = tl.load(D + c, mask=in_c, other=0.0)
    future = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)  # the gradient of this token's state from later tokens
    q = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    slope = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)  # the derivative of ``future`` by A, windowed only
    dA_sum = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    dD_sum = tl.zeros((BLOCK_C,), tl.float32)
    for later in range(0, chunks):
        k = chunks - 1 - later
        first = k * chunk
        steps = tl.minimum(chunk, length - first)
        h = tl.load(starts + (b * chunks + k) * channels * state + tile, mask=in_tile, other=0.0)
        tl.debug_barrier()  # threads share `pasts`: all must have read the previous chunk
        for i in range(0, steps):
            t = first + i
            token = b * length + t
            x_t = tl.load(x + token * channels + c, mask=in_c, other=0.0)
            dt_t = tl.load(dt + token * channels + c, mask=in_c, other=0.0)
            B_t = tl.load(B + token * state + n, mask=in_n, other=0.0)
            past = _past(h, x, dt, B, sums, a, dt_t, token, t, channels, state, window, c, n, WINDOWED)
            tl.store(pasts + (b * chunk + i) * channels * state + tile, past, mask=in_tile)
            h = past + (dt_t * x_t)[:, None] * B_t[None, :]
        tl.debug_barrier()  # and written this one
        for j in range(0, steps):
            i = steps - 1 - j
            t = first + i
            token = b * length + t
            x_t = tl.load(x + token * channels + c, mask=in_c, other=0.0)
            dt_t = tl.load(dt + token * channels + c, mask=in_c, other=0.0)
            dy_t = tl.load(dy + token * channels + c, mask=in_c, other=0.0)
            B_t = tl.load(B + token * state + n, mask=in_n, other=0.0)
            C_t = tl.load(C + token * state + n, mask=in_n, other=0.0)
            past = tl.load(pasts + (b * chunk + i) * channels * state + tile, mask=in_tile, other=0.0)
            u_t = dt_t * x_t
            v = u_t[:, None] * B_t[None, :]
            own = dy_t[:, None] * C_t[None, :]
            g = future + own
            partial = ((b * blocks + block) * length + t) * state + n
            tl.store(dB + partial, tl.sum(g * u_t[:, None], axis=0), mask=in_n)
            tl.store(dC + partial, tl.sum((past + v) * dy_t[:, None], axis=0), mask=in_n)
            if WINDOWED:
                q += own * past - v * future
                dA_sum += v * slope
            else:
                q = g * past
                dA_sum += q * dt_t[:, None]
            du = tl.sum(g * B_t[None, :], axis=1)
            tl.store(dx + token * channels + c, dt_t * du + skip * dy_t, mask=in_c)
            tl.store(ddt + token * channels + c, x_t * du + tl.sum(q * a, axis=1), mask=in_c)
            dD_sum += x_t * dy_t
            decay = tl.exp(dt_t[:, None] * a)
            future = decay * g
            if WINDOWED:
                # The last token that saw this one does not see the one before it.
                end = token - 1 + window
                seen = t - 1 + window < length
                seen_c, seen_n = c < tl.where(seen, channels, 0), n < tl.where(seen, state, 0)
                total = tl.load(sums + end * channels + c, mask=seen_c, other=0.0)
                dy_end = tl.load(dy + end * channels + c, mask=seen_c, other=0.0)
                C_end = tl.load(C + end * state + n, mask=seen_n, other=0.0)
                lost = tl.exp(total[:, None] * a) * (dy_end[:, None] * C_end[None, :])
                slope = tl.where(window > 1, decay * (slope + dt_t[:, None] * g) - total[:, None] * lost, 0.0)
                future = tl.where(window > 1, future - lost, 0.0)
    tl.store(dA + b * channels * state + tile, dA_sum, mask=in_tile)
    tl.store(dD + b * channels + c, dD_sum, mask=in_c)


@triton.jit
def _windowed_sum(
    dt, sums, length, channels, window, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """sums[t] = dt[t-w+1] + … + dt[t], summed directly so that nothing cancels."""
    b = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (t < length)[:, None] & (c < channels)[None, :]
    where = (b * length + t)[:, None] * channels + c[None, :]
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for back in range(0, window):
        total += tl.load(dt + where - back * channels, mask=inside & (t >= back)[:, None], other=0.0)
    tl.store(sums + where, total, mask=inside)


class TritonScan(torch.autograd.Function):
    """(x, dt, A, B, C, D) contiguous float32, ``window`` or 0, ``save`` -> y; see :mod:`.selective_scan`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int, save: bool
    ) -> Tensor:
        batch, length, channels = x.shape
        state = A.shape[1]
        # The backward pass keeps one chunk's states and the first state of each chunk: fewest at the square root.
        chunk = math.isqrt(length - 1) + 1
        chunks = triton.cdiv(length, chunk)
        y = torch.empty_like(x)
        starts = x.new_empty(batch, chunks, channels, state) if save else y
        sums = torch.empty_like(dt) if window else y
        block_c, block_n, warps = _blocks(channels, state)
        with torch.cuda.device_of(x):
            if window:
                grid = (batch, triton.cdiv(length, 32), triton.cdiv(channels, 32))
                _windowed_sum[grid](dt, sums, length, channels, window, BLOCK_T=32, BLOCK_C=32, enable_fp_fusion=True)
            _forward[(batch, triton.cdiv(channels, block_c))](
                x, dt, A, B, C, D, sums, y, starts, length, channels, state, window, chunk, chunks,
                WINDOWED=window > 0, SAVE=save, BLOCK_C=block_c, BLOCK_N=block_n,
                num_warps=warps, enable_fp_fusion=True,
            )  # fmt: skip
        if save:
            ctx.save_for_backward(x, dt, A, B, C, D, sums, starts)
            ctx.window, ctx.chunk = window, chunk
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, sums, starts = ctx.saved_tensors
        batch, length, channels = x.shape
        state, chunks = A.shape[1], starts.shape[1]
        block_c, block_n, warps = _blocks(channels, state)
        blocks = triton.cdiv(channels, block_c)
        dx, ddt = torch.empty_like(x), torch.empty_like(dt)
        dA, dD = x.new_empty(batch, channels, state), x.new_empty(batch, channels)
        dB, dC = x.new_empty(batch, blocks, length, state), x.new_empty(batch, blocks, length, state)
        pasts = x.new_empty(batch, ctx.chunk, channels, state)
        with torch.cuda.device_of(x):
            _backward[(batch, blocks)](
                x, dt, A, B, C, D, sums, starts, dy.contiguous(), pasts, dx, ddt, dA, dB, dC, dD,
                length, channels, state, ctx.window, ctx.chunk, chunks, blocks,
                WINDOWED=ctx.window > 0, BLOCK_C=block_c, BLOCK_N=block_n, num_warps=warps, enable_fp_fusion=True,
            )  # fmt: skip
        return dx, ddt, dA.sum(0), dB.sum(1), dC.sum(1), dD.sum(0), None, None


def _blocks(channels: int, state: int) -> tuple[int, int, int]:
    """Channels and states of a program's tile, powers of two, and its warps. Tiles are small, so many fit a GPU."""
    block_n = triton.next_power_of_2(state)
    block_c = min(triton.next_power_of_2(channels), max(16, 256 // block_n))
    return block_c, block_n, min(8, max(1, block_c * block_n // 512))
