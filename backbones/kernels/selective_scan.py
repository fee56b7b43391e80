"""The selective scan of Mamba (Gu and Dao, arXiv:2312.00752, section 3), with a memory that may end after a window.

For each batch row, channel c and state n, with dt already positive (softplus applied):

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t,      y_t = sum_n C_t h_t + D x_t,      h_{-1} = 0

Layout: x, dt (batch, length, channels); A (channels, state), negative; B, C (batch, length, state); D (channels,).
With ``window`` = w, y_t is what a scan of the tokens t-w+1..t alone, from zero, would give at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.errors import UserError
from backbench.backbones.kernels.dispatch import Operation
from backbench.backbones.kernels.selective_scan_torch import SelectiveScan

Scan: TypeAlias = Callable[..., Tensor]  # (x, dt, A, B, C, D, window)
SELECTIVE_SCAN: Operation[Scan] = Operation("selective_scan")


def selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    window: int | None = None,
    implementation: str = "auto",
) -> Tensor:
    """y, (batch, length, channels); see the module for shapes.

    It is computed in the type of A, under autocast too: states multiply up their rounding errors. y has the type of x.

    Raises:
        UserError: ``window`` is below 1, or there is no such implementation.
    """
    if window is not None and window < 1:
        raise UserError(f"selective_scan: window={window}; give at least 1, or None for no window")
    if window is not None and window >= x.shape[1]:
        window = None  # no token is old enough to be forgotten
    scan = SELECTIVE_SCAN.pick(implementation, A)
    with torch.autocast(x.device.type, enabled=False):
        inputs = (tensor.to(A.dtype) for tensor in (x, dt, A, B, C, D))
        return scan(*inputs, window).to(x.dtype)


def selective_scan_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: x, dt (batch, channels), B, C (batch, state), state (batch, channels, state) -> y, the next state."""
    state = torch.exp(dt.unsqueeze(-1) * A) * state + (dt * x).unsqueeze(-1) * B.unsqueeze(1)
    return (state @ C.unsqueeze(-1)).squeeze(-1) + D * x, state


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
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y_t, state = selective_scan_step(x_t, dt_t, A, B_t, C_t, D, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1)


@SELECTIVE_SCAN.add("torch")
def fast(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int | None = None) -> Tensor:
    """The same with a backward pass written by hand."""
    y: Tensor = SelectiveScan.apply(x, dt, A, B, C, window)  # type: ignore[no-untyped-call]
    return y + D * x
