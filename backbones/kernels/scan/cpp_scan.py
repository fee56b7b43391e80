"""The selective scan in C++: values, gradients and a carried state, by the compiled kernels of ``native``."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.scan.naive import ScanInputs


def prepared(inputs: ScanInputs) -> ScanInputs:
    """The inputs in a layout that the library accepts; copies only what has another one."""
    x, dt, B, C = (loader.innermost(tensor) for tensor in (inputs.x, inputs.dt, inputs.B, inputs.C))
    gate = None if inputs.gate is None else loader.innermost(inputs.gate)
    return inputs._replace(x=x, dt=dt, A=inputs.A.contiguous(), B=B, C=C, D=inputs.D.contiguous(), gate=gate)


def arguments(inputs: ScanInputs) -> loader.ScanArguments:
    """The library's view of `prepared` inputs, which must outlive the call. Shapes are checked here, and only here."""
    x, dt, A, B, C, D, window, gate, softplus = inputs
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
    """The fields of `ScanInputs`, ``save`` -> y. Saves the states between chunks of tokens and recomputes all others.

    ``save`` tells whether gradients will be needed: under ``no_grad``, ``ctx.needs_input_grad`` does not.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *fields, save = args
        inputs = prepared(ScanInputs(*fields))
        x, gate = inputs.x, inputs.gate
        passed = arguments(inputs)
        y = torch.empty(x.shape)
        ungated = saved = None
        if save:
            saved = torch.empty(loader.library().backbench_saved_size(ctypes.byref(passed)))
            ungated = None if gate is None else torch.empty(x.shape)
            ctx.save_for_backward(*inputs[:6], gate, ungated, saved)
            ctx.window, ctx.softplus = inputs.window, inputs.softplus
        forward = loader.ScanForward(passed, *(loader.pointer(t) for t in (y, ungated, saved, None)))
        loader.run("scan_forward", ctypes.byref(forward))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, gate, ungated, saved = ctx.saved_tensors
        dy = loader.innermost(dy)
        inputs = arguments(ScanInputs(x, dt, A, B, C, D, ctx.window, gate, ctx.softplus))
        dx, ddt, dB, dC = (torch.empty(t.shape) for t in (x, dt, B, C))
        dgate = None if gate is None else torch.empty(x.shape)
        channels, state = A.shape
        groups, width = loader.library().backbench_groups(len(x)), loader.library().backbench_padded(channels)
        dA, dD = torch.zeros(groups, -(-state // 4) * 4, width), torch.zeros(groups, width)
        backward = loader.ScanBackward(
            inputs, loader.rows(dy), *(loader.pointer(t) for t in (ungated, saved, dx, ddt, dB, dC, dgate, dA, dD))
        )
        loader.run("scan_backward", ctypes.byref(backward))
        return dx, ddt, dA.sum(0)[:state, :channels].t(), dB, dC, dD.sum(0)[:channels], None, dgate, None, None


def scan_on(inputs: ScanInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Further tokens after ``state`` (batch, state, channels), which is overwritten: y, the next state."""
    inputs, state = prepared(inputs)._replace(window=None), state.contiguous()
    y = torch.empty(inputs.x.shape)
    forward = loader.ScanForward(arguments(inputs), y.data_ptr(), None, None, state.data_ptr())
    loader.run("scan_forward", ctypes.byref(forward))
    return y, state
