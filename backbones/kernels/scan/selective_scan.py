"""The selective scan of Mamba (Gu and Dao, arXiv:2312.00752, section 3), with a memory that may end after a window.

For each batch row, channel c and state n, with dt already positive (softplus applied):

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,      y_t = sum_n C_t h_t + D x_t,      h_{-1} = 0

Layout: x, dt (batch, length, channels); A (channels, state), negative; B, C (batch, length, state); D (channels,).
With ``window`` = w, y_t is the last output of a scan of the tokens t-w+1..t alone, from zero. With a gate z,
(batch, length, channels), the output is y_t silu(z_t), as in the Mamba block. With ``negative`` the decay is
2 exp(dt_t A) - 1, in (-1, 1) (Grazzi et al., arXiv:2411.12537), and there is no window.
"""

import ctypes
import functools
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from backbench.backbones.flops import priced
from backbench.backbones.kernels.dispatch import Implementation, Operation, missing, triton_missing
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.native.operators import operator
from backbench.backbones.kernels.scan import naive
from backbench.backbones.kernels.scan.naive import ScanInputs
from backbench.backbones.kernels.scan.torch_scan import SelectiveScan
from backbench.errors import UserError, require

LONG = 200  # tokens
NEGATIVE = ("reference", "torch", "cpp")  # implementations that have negative decays


class SlowKernels(UserWarning):
    """A slow implementation runs because a much faster one is missing."""


@functools.cache
def warn_once(text: str) -> None:
    """Warn, the first time in this process."""
    warnings.warn(text, SlowKernels, stacklevel=3)


def slow_note() -> str | None:
    """One line if the scan has no compiled kernels on this CPU, else None."""
    missing = loader.missing()
    return missing and f"the scan of Mamba and GLoMa runs in plain PyTorch, several times slower: {missing}"


@priced(lambda x, dt, A, *_, window=None, **__: x.shape[0] * x.shape[1] * naive.of_scan(A, window))
def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *,
    window: int | None = None, gate: Tensor | None = None, softplus: bool = False, negative: bool = False,
    implementation: str = "auto",
) -> Tensor:  # fmt: skip
    """y, (batch, length, channels); see the module for shapes. ``softplus`` is applied to dt first.

    The scan computes in the type of A, also under autocast, because states multiply rounding errors. y has x's type.
    Raises UserError if ``window`` is below 1 or there is no such implementation, also of negative decays.
    """
    if window is not None and window < 1:
        raise UserError(f"selective_scan: window={window}; give at least 1, or None for no window")
    if window is not None and window >= x.shape[1]:
        window = None  # no token is old enough to be forgotten
    entry = SELECTIVE_SCAN.pick(_with_signs(implementation, A) if negative else implementation, A)
    require(not negative or window is None, f"selective_scan: negative decays have no window (window={window})")
    if entry.name == "torch" and implementation == "auto" and A.device.type == "cpu" and (note := slow_note()):
        warn_once(note)
    elif entry.name == "reference" and x.shape[1] > LONG:
        warn_once(f"the reference implementation of the scan runs on {x.shape[1]} tokens; kernels=auto is much faster")
    with torch.autocast(x.device.type, enabled=False):
        inputs = _in_type_of_A(ScanInputs(x, dt, A, B, C, D, window, gate, softplus, negative))
        y = entry.function(inputs) if entry.fused else _gated(entry.function(_positive(inputs)), inputs.gate)
        return y.to(x.dtype)


def selective_scan_extend(inputs: ScanInputs, state: Tensor, implementation: str = "auto") -> tuple[Tensor, Tensor]:
    """The scan of further tokens after ``state`` (batch, state, channels): y, the state after the last token.

    The function may write into ``state``. There is no window. Gradients flow if they are enabled. Types as in the scan.
    Raises ValueError if the state does not fit the inputs, UserError if there is no such implementation.
    """
    x, A = inputs.x, inputs.A
    entry = SELECTIVE_SCAN.pick(_with_signs(implementation, A) if inputs.negative else implementation, A)
    if state.shape != (len(x), A.shape[1], A.shape[0]) or state.dtype != A.dtype:
        wanted = f"{(len(x), A.shape[1], A.shape[0])}, {A.dtype}"
        raise ValueError(f"selective_scan: the state is {tuple(state.shape)}, {state.dtype}; it must be {wanted}")
    inputs = _in_type_of_A(inputs)
    if entry.name == "cpp" and not torch.is_grad_enabled():
        y, state = scan_on(inputs, state)
        return y.to(x.dtype), state
    y, state = naive.scan_from(state, _positive(inputs))
    return _gated(y, inputs.gate).to(x.dtype), state


def _with_signs(implementation: str, A: Tensor) -> str:
    """The implementation for negative decays. UserError if the one that the user names has none."""
    if implementation == "auto":
        return "auto" if A.device.type == "cpu" else "torch"
    known = f"use {', '.join(NEGATIVE)} or auto"
    require(implementation in NEGATIVE, f"selective_scan: '{implementation}' has no negative eigenvalues; {known}")
    return implementation


def _in_type_of_A(inputs: ScanInputs) -> ScanInputs:
    return ScanInputs._make(part.to(inputs.A.dtype) if isinstance(part, Tensor) else part for part in inputs)


def _positive(inputs: ScanInputs) -> ScanInputs:
    """The inputs of an implementation that is not fused: with a positive dt."""
    return inputs._replace(dt=F.softplus(inputs.dt)) if inputs.softplus else inputs


def _gated(y: Tensor, gate: Tensor | None) -> Tensor:
    return y if gate is None else y * F.silu(gate)


def by_hand(inputs: ScanInputs) -> Tensor:
    """The same with a backward pass written by hand."""
    x, dt, A, B, C, D, window, *_ = inputs
    options = (window, inputs.negative, inputs.want_gradients())
    y: Tensor = SelectiveScan.apply(x, dt, A, B, C, *options)  # type: ignore[no-untyped-call]
    return y + D * x


def prepared(inputs: ScanInputs) -> ScanInputs:
    """The inputs in a layout that the library accepts; copies only what has another one."""
    x, dt, B, C = (loader.innermost(tensor) for tensor in (inputs.x, inputs.dt, inputs.B, inputs.C))
    gate = None if inputs.gate is None else loader.innermost(inputs.gate)
    return inputs._replace(x=x, dt=dt, A=inputs.A.contiguous(), B=B, C=C, D=inputs.D.contiguous(), gate=gate)


def arguments(inputs: ScanInputs) -> loader.ScanArguments:
    """The library's view of `prepared` inputs, which must outlive the call. Shapes are checked here, and only here."""
    x, dt, A, B, C, D, window, gate, softplus, negative = inputs
    (batch, length, channels), state = x.shape, A.shape[1]
    expected = ((x, (channels,)), (dt, (channels,)), (B, (state,)), (C, (state,)))
    same = all(t.shape == (batch, length, *d) for t, d in expected) and (gate is None or gate.shape == x.shape)
    if not same or A.shape != (channels, state) or D.shape != (channels,):
        shapes = ", ".join(str(tuple(t.shape)) for t in (x, dt, A, B, C, D))
        raise ValueError(f"selective_scan: the shapes of x, dt, A, B, C, D do not fit each other: {shapes}")
    return loader.ScanArguments(
        *(batch, length, channels, state, window or 0, int(softplus), int(negative)),
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
            ctx.window, ctx.signs = inputs.window, (inputs.softplus, inputs.negative)
        forward = loader.ScanForward(passed, *(loader.pointer(t) for t in (y, ungated, saved, None)))
        loader.run("scan_forward", ctypes.byref(forward))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, gate, ungated, saved = ctx.saved_tensors
        dy = loader.innermost(dy)
        inputs = arguments(ScanInputs(x, dt, A, B, C, D, ctx.window, gate, *ctx.signs))
        dx, ddt, dB, dC = (torch.empty(t.shape) for t in (x, dt, B, C))
        dgate = None if gate is None else torch.empty(x.shape)
        channels, state = A.shape
        groups, width = loader.library().backbench_groups(len(x)), loader.library().backbench_padded(channels)
        dA, dD = torch.zeros(groups, -(-state // 4) * 4, width), torch.zeros(groups, width)
        backward = loader.ScanBackward(
            inputs, loader.rows(dy), *(loader.pointer(t) for t in (ungated, saved, dx, ddt, dB, dC, dgate, dA, dD))
        )
        loader.run("scan_backward", ctypes.byref(backward))
        return dx, ddt, dA.sum(0)[:state, :channels].t(), dB, dC, dD.sum(0)[:channels], None, dgate, None, None, None


def scan_on(inputs: ScanInputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Further tokens after ``state`` (batch, state, channels), which is overwritten: y, the next state."""
    inputs, state = prepared(inputs)._replace(window=None), state.contiguous()
    y = torch.empty(inputs.x.shape)
    forward = loader.ScanForward(arguments(inputs), y.data_ptr(), None, None, state.data_ptr())
    loader.run("scan_forward", ctypes.byref(forward))
    return y, state


@operator(
    "selective_scan(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, int? window, Tensor? gate, "
    "bool softplus, bool negative) -> Tensor",
    like="x",
)
def _operator(*inputs: Any) -> Tensor:
    return SelectiveScanCpp.apply(*inputs, False)  # type: ignore[no-any-return, no-untyped-call]


def cpp(inputs: ScanInputs) -> Tensor:
    """Compiled for the CPU: a vector of channels at a time, with gate and softplus in the same pass."""
    if torch.compiler.is_exporting():
        return _operator(*inputs)
    return SelectiveScanCpp.apply(*inputs, inputs.want_gradients())  # type: ignore[no-any-return, no-untyped-call]


def mamba_ssm(inputs: ScanInputs) -> Tensor:
    """The CUDA kernels of Mamba's authors; without a window, and not deterministic backward."""
    x, dt, A, B, C, D, window, gate, softplus, _ = inputs
    if window is not None:
        raise UserError(f"selective_scan: mamba_ssm has no window (window={window}); use triton, torch or auto")
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, dt, B, C = (tensor.transpose(1, 2) for tensor in (x, dt, B, C))
    z = None if gate is None else gate.transpose(1, 2)
    y: Tensor = selective_scan_fn(x, dt, A.contiguous(), B, C, D, z=z, delta_softplus=softplus)
    return y.transpose(1, 2)


def triton(inputs: ScanInputs) -> Tensor:
    """Triton kernels: sequential in time, parallel over batch and channels; deterministic."""
    from backbench.backbones.kernels.scan.triton_scan import TritonScan

    window = inputs.window or 0
    window = window if window < inputs.x.shape[1] else 0
    tensors = (tensor.contiguous() for tensor in inputs[:6])
    return TritonScan.apply(*tensors, window, inputs.want_gradients())  # type: ignore[no-any-return, no-untyped-call]


_SINGLE = (torch.float32,)
SELECTIVE_SCAN = Operation(
    "selective_scan",
    Implementation("reference", naive.selective_scan),
    Implementation("torch", by_hand),
    Implementation("cpp", cpp, ("cpu",), _SINGLE, fused=True, missing=loader.missing),
    Implementation(
        "mamba_ssm", mamba_ssm, ("cuda",), _SINGLE, False, True,
        missing("mamba_ssm", "pip install causal-conv1d mamba-ssm --no-build-isolation"),
    ),
    Implementation("triton", triton, ("cuda",), _SINGLE, missing=triton_missing),
)  # fmt: skip
