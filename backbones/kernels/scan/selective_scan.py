"""The selective scan of Mamba (Gu and Dao, arXiv:2312.00752, section 3), with a memory that may end after a window.

For each batch row, channel c and state n, with dt already positive (softplus applied):

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,      y_t = sum_n C_t h_t + D x_t,      h_{-1} = 0

Layout: x, dt (batch, length, channels); A (channels, state), negative; B, C (batch, length, state); D (channels,).
With ``window`` = w, y_t is the last output of a scan of the tokens t-w+1..t alone, from zero. With a gate z,
(batch, length, channels), the output is y_t silu(z_t), as in the Mamba block.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.dispatch import Implementation, Operation, missing, triton_missing
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.scan import naive
from backbench.backbones.kernels.scan.cpp_scan import SelectiveScanCpp, scan_on
from backbench.backbones.kernels.scan.naive import ScanInputs
from backbench.backbones.kernels.scan.torch_scan import SelectiveScan
from backbench.errors import UserError

LONG = 200  # tokens


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


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *,
    window: int | None = None, gate: Tensor | None = None, softplus: bool = False, implementation: str = "auto",
) -> Tensor:  # fmt: skip
    """y, (batch, length, channels); see the module for shapes. ``softplus`` is applied to dt first.

    The scan computes in the type of A, also under autocast, because states multiply rounding errors. y has x's type.
    Raises UserError if ``window`` is below 1 or there is no such implementation.
    """
    if window is not None and window < 1:
        raise UserError(f"selective_scan: window={window}; give at least 1, or None for no window")
    if window is not None and window >= x.shape[1]:
        window = None  # no token is old enough to be forgotten
    entry = SELECTIVE_SCAN.pick(implementation, A)
    if entry.name == "torch" and implementation == "auto" and A.device.type == "cpu" and (note := slow_note()):
        warn_once(note)
    elif entry.name == "reference" and x.shape[1] > LONG:
        warn_once(f"the reference implementation of the scan runs on {x.shape[1]} tokens; kernels=auto is much faster")
    with torch.autocast(x.device.type, enabled=False):
        inputs = _in_type_of_A(ScanInputs(x, dt, A, B, C, D, window, gate, softplus))
        y = entry.function(inputs) if entry.fused else _gated(entry.function(_positive(inputs)), inputs.gate)
        return y.to(x.dtype)


def selective_scan_extend(inputs: ScanInputs, state: Tensor, implementation: str = "auto") -> tuple[Tensor, Tensor]:
    """The scan of further tokens after ``state`` (batch, state, channels): y, the state after the last token.

    The function may write into ``state``. There is no window. Gradients flow if they are enabled. Types as in the scan.
    Raises ValueError if the state does not fit the inputs, UserError if there is no such implementation.
    """
    x, A = inputs.x, inputs.A
    entry = SELECTIVE_SCAN.pick(implementation, A)
    if state.shape != (len(x), A.shape[1], A.shape[0]) or state.dtype != A.dtype:
        wanted = f"{(len(x), A.shape[1], A.shape[0])}, {A.dtype}"
        raise ValueError(f"selective_scan: the state is {tuple(state.shape)}, {state.dtype}; it must be {wanted}")
    inputs = _in_type_of_A(inputs)
    if entry.name == "cpp" and not torch.is_grad_enabled():
        y, state = scan_on(inputs, state)
        return y.to(x.dtype), state
    y, state = naive.scan_from(state, _positive(inputs))
    return _gated(y, inputs.gate).to(x.dtype), state


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
    y: Tensor = SelectiveScan.apply(x, dt, A, B, C, window, inputs.want_gradients())  # type: ignore[no-untyped-call]
    return y + D * x


def cpp(inputs: ScanInputs) -> Tensor:
    """Compiled for the CPU: a vector of channels at a time, with gate and softplus in the same pass."""
    return SelectiveScanCpp.apply(*inputs, inputs.want_gradients())  # type: ignore[no-any-return, no-untyped-call]


def mamba_ssm(inputs: ScanInputs) -> Tensor:
    """The CUDA kernels of Mamba's authors; without a window, and not deterministic backward."""
    x, dt, A, B, C, D, window, gate, softplus = inputs
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
