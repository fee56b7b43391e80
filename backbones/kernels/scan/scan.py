"""The selective scan of Mamba (Gu and Dao, arXiv:2312.00752, section 3), with a memory that may end after a window.

For each batch row, channel c and state n, with dt already positive (softplus applied):

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,      y_t = sum_n C_t h_t + D x_t,      h_{-1} = 0

Layout: x, dt (batch, length, channels); A (channels, state), negative; B, C (batch, length, state); D (channels,).
With ``window`` = w, y_t is what a scan of the tokens t-w+1..t alone, from zero, would give at its end. With a gate z,
(batch, length, channels), the output is y_t silu(z_t), as in the Mamba block.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels import accelerators
from backbench.backbones.kernels.dispatch import Operation
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.scan.cpp_scan import SelectiveScanCpp, scan_on
from backbench.backbones.kernels.scan.torch_scan import SelectiveScan
from backbench.errors import UserError

LONG = 200  # tokens

Scan: TypeAlias = Callable[..., Tensor]  # (x, dt, A, B, C, D, window), and gate, softplus where they are fused
SELECTIVE_SCAN: Operation[Scan] = Operation("selective_scan")


class SlowKernels(UserWarning):
    """Something runs that has a much faster form, which is missing here."""


@functools.cache
def warn_once(text: str) -> None:
    """As a warning, the first time in this process."""
    warnings.warn(text, SlowKernels, stacklevel=3)


def slow_note() -> str | None:
    """One line when the scan has no compiled kernels on this CPU; else None."""
    missing = loader.missing()
    return missing and f"the scan of Mamba and GLoMa runs in plain PyTorch, several times slower: {missing}"


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    gate: Tensor | None = None,
    softplus: bool = False,
    window: int | None = None,
    implementation: str = "auto",
) -> Tensor:
    """y, (batch, length, channels); see the module for shapes. ``softplus`` is applied to dt first, where asked for.

    It is computed in the type of A, under autocast too: states multiply up their rounding errors. y has the type of x.

    Raises:
        UserError: ``window`` is below 1, or there is no such implementation.
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
    kind = x.dtype
    with torch.autocast(x.device.type, enabled=False):
        x, dt, B, C, D = (tensor.to(A.dtype) for tensor in (x, dt, B, C, D))
        gate = None if gate is None else gate.to(A.dtype)
        if entry.fused:
            return entry.function(x, dt, A, B, C, D, window, gate, softplus).to(kind)
        y = entry.function(x, F.softplus(dt) if softplus else dt, A, B, C, D, window)
        return (y if gate is None else y * F.silu(gate)).to(kind)


def selective_scan_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: x, dt (batch, channels), B, C (batch, state), state (batch, state, channels) -> y, the next state."""
    state = torch.exp(dt.unsqueeze(1) * A.t()) * state + (dt * x).unsqueeze(1) * B.unsqueeze(2)
    return (C.unsqueeze(1) @ state).squeeze(1) + D * x, state


def selective_scan_extend(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    *,
    gate: Tensor | None = None,
    softplus: bool = False,
    implementation: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The scan of further tokens after ``state`` (batch, state, channels): y, the state after the last token.

    The state that is given may be written over. Gradients flow, where they are enabled. Number types as in the scan.

    Raises:
        ValueError: the state does not fit the inputs, or is not of the type of A.
        UserError: there is no such implementation.
    """
    entry = SELECTIVE_SCAN.pick(implementation, A)
    if state.shape != (len(x), A.shape[1], A.shape[0]) or state.dtype != A.dtype:
        wanted = f"{(len(x), A.shape[1], A.shape[0])}, {A.dtype}"
        raise ValueError(f"selective_scan: the state is {tuple(state.shape)}, {state.dtype}; it must be {wanted}")
    kind = x.dtype
    x, dt, B, C, D = (tensor.to(A.dtype) for tensor in (x, dt, B, C, D))
    gate = None if gate is None else gate.to(A.dtype)
    if entry.name == "cpp" and not torch.is_grad_enabled():
        y, state = scan_on(x, dt, A, B, C, D, state, gate, softplus)
        return y.to(kind), state
    dt = F.softplus(dt) if softplus else dt
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y_t, state = selective_scan_step(x_t, dt_t, A, B_t, C_t, D, state)
        outputs.append(y_t)
    y = torch.stack(outputs, 1)
    return (y if gate is None else y * F.silu(gate)).to(kind), state


def windows(x: Tensor, window: int) -> Tensor:
    """(batch, length, d) -> (batch, length, window, d): the tokens up to each one, zeros before the first."""
    return F.pad(x, (0, 0, window - 1, 0)).unfold(1, window, 1).transpose(2, 3)


@SELECTIVE_SCAN.add("reference")
def reference(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int | None = None) -> Tensor:
    """The definition, one token after the other. A window is taken literally: every window is scanned from zero.

    Tokens are taken apart by ``unbind`` once: indexing inside the loop would make the backward pass quadratic in
    length, as each index has a gradient as large as the whole sequence.
    """
    if window is not None:
        batch, length, channels = x.shape
        # A window is a row of a larger batch; its zeros before the first token leave the state at zero.
        rows = [windows(part, window).flatten(0, 1) for part in (x, dt, B, C)]
        ends = reference(rows[0], rows[1], A, rows[2], rows[3], D)[:, -1]
        return ends.view(batch, length, channels)
    state = x.new_zeros(x.shape[0], A.shape[1], A.shape[0])
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y_t, state = selective_scan_step(x_t, dt_t, A, B_t, C_t, D, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1)


@SELECTIVE_SCAN.add("torch")
def fast(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int | None = None) -> Tensor:
    """The same with a backward pass written by hand."""
    save = wants_gradients(x, dt, A, B, C)
    y: Tensor = SelectiveScan.apply(x, dt, A, B, C, window, save)  # type: ignore[no-untyped-call]
    return y + D * x


@SELECTIVE_SCAN.add("cpp", devices=("cpu",), dtypes=(torch.float32,), fused=True, missing=loader.missing)
def cpp(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    window: int | None = None,
    gate: Tensor | None = None,
    softplus: bool = False,
) -> Tensor:
    """Compiled for the CPU: a vector of channels at a time, with gate and softplus in the same pass."""
    save = wants_gradients(x, dt, A, B, C, D, gate)
    y: Tensor = SelectiveScanCpp.apply(x, dt, A, B, C, D, gate, window, softplus, save)  # type: ignore[no-untyped-call]
    return y


def wants_gradients(*tensors: Tensor | None) -> bool:
    """Whether autograd follows an operation on these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


SELECTIVE_SCAN.add(
    "mamba_ssm",
    devices=("cuda",),
    dtypes=(torch.float32,),
    auto=False,
    fused=True,
    missing=accelerators.mamba_ssm_missing,
)(accelerators.mamba_ssm_scan)
SELECTIVE_SCAN.add("triton", devices=("cuda",), dtypes=(torch.float32,), missing=accelerators.triton_missing)(
    accelerators.triton_scan
)
