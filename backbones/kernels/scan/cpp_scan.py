"""The selective scan in C++: values, gradients and a carried state, by the compiled kernels of ``native``."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbench.backbones.kernels.native import loader


def arguments(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    gate: Tensor | None,
    window: int | None,
    softplus: bool,
) -> loader.ScanArguments:
    """The inputs as the library wants them; they must outlive the call. Shapes are checked here, and only here."""
    batch, length, channels = x.shape
    state = A.shape[1]
    expected = ((x, (channels,)), (dt, (channels,)), (B, (state,)), (C, (state,)))
    same = all(t.shape == (batch, length, *d) for t, d in expected) and (gate is None or gate.shape == x.shape)
    if not same or A.shape != (channels, state) or D.shape != (channels,):
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, dt, A, B, C, D))
        raise ValueError(f"selective_scan: the shapes of x, dt, A, B, C, D do not fit each other: {shapes}")
    return loader.ScanArguments(
        *(batch, length, channels, state, window or 0, int(softplus)),
        *(loader.rows(tensor) for tensor in (x, dt, B, C, gate)),
        *(A.data_ptr(), D.data_ptr()),
    )


class SelectiveScanCpp(torch.autograd.Function):
    """y, gated if there is a gate. Between chunks of tokens the states are saved, all others computed again.

    ``save`` says whether gradients will be asked for: under ``no_grad``, ``ctx.needs_input_grad`` does not.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        gate: Tensor | None,
        window: int | None,
        softplus: bool,
        save: bool,
    ) -> Tensor:
        x, dt, B, C = (loader.innermost(tensor) for tensor in (x, dt, B, C))
        gate = None if gate is None else loader.innermost(gate)
        A, D = A.contiguous(), D.contiguous()
        inputs = arguments(x, dt, A, B, C, D, gate, window, softplus)
        y = torch.empty(x.shape)
        ungated = saved = None
        if save:
            saved = torch.empty(loader.library().backbench_saved_size(ctypes.byref(inputs)))
            ungated = None if gate is None else torch.empty(x.shape)
            ctx.save_for_backward(x, dt, A, B, C, D, gate, ungated, saved)
            ctx.window, ctx.softplus = window, softplus
        forward = loader.ScanForward(inputs, *(loader.pointer(t) for t in (y, ungated, saved, None)))
        loader.run("scan_forward", ctypes.byref(forward))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, gate, ungated, saved = ctx.saved_tensors
        dy = loader.innermost(dy)
        inputs = arguments(x, dt, A, B, C, D, gate, ctx.window, ctx.softplus)
        dx, ddt, dB, dC = (torch.empty(t.shape) for t in (x, dt, B, C))
        dgate = None if gate is None else torch.empty(x.shape)
        channels, state = A.shape
        groups, width = loader.library().backbench_groups(len(x)), loader.library().backbench_padded(channels)
        dA, dD = torch.zeros(groups, -(-state // 4) * 4, width), torch.zeros(groups, width)
        backward = loader.ScanBackward(
            inputs, loader.rows(dy), *(loader.pointer(t) for t in (ungated, saved, dx, ddt, dB, dC, dgate, dA, dD))
        )
        loader.run("scan_backward", ctypes.byref(backward))
        return dx, ddt, dA.sum(0)[:state, :channels].t(), dB, dC, dD.sum(0)[:channels], dgate, None, None, None


def scan_on(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    gate: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Further tokens after ``state`` (batch, state, channels), which is written over: y, the next state."""
    x, dt, B, C = (loader.innermost(tensor) for tensor in (x, dt, B, C))
    gate = None if gate is None else loader.innermost(gate)
    A, D = A.contiguous(), D.contiguous()
    state = state.contiguous()
    inputs = arguments(x, dt, A, B, C, D, gate, None, softplus)
    y = torch.empty(x.shape)
    forward = loader.ScanForward(inputs, y.data_ptr(), None, None, state.data_ptr())
    loader.run("scan_forward", ctypes.byref(forward))
    return y, state
