"""The selective scan's inputs, and its definition, to read and to test against."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class ScanInputs(NamedTuple):
    """All that a selective scan takes, see :mod:`backbench.backbones.kernels.scan.selective_scan`."""

    x: Tensor  # (batch, length, channels)
    dt: Tensor  # (batch, length, channels), positive, or anything if ``softplus``
    A: Tensor  # (channels, state), negative
    B: Tensor  # (batch, length, state)
    C: Tensor  # (batch, length, state)
    D: Tensor  # (channels,)
    window: int | None = None  # tokens that are remembered; None for all
    gate: Tensor | None = None  # (batch, length, channels): y is multiplied by silu(gate)
    softplus: bool = False  # whether softplus is still to be applied to dt
    negative: bool = False  # whether decays are 2 exp(dt A) - 1, in (-1, 1), instead of exp(dt A)

    def want_gradients(self) -> bool:
        """Whether autograd records an operation on these inputs."""
        tensors = (*self[:6], self.gate)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def of_scan(A: Tensor, window: int | None = None) -> float:
    """FLOPs per token, as counted by Mamba's authors: 9 per channel and state. A window needs 4 more.

    These are the products and sums of the step below, softplus and the skip by D. The window's are one more decay and
    the subtraction of the state before it.
    """
    return (9 if window is None else 13) * float(A.numel())


def selective_scan_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, negative: bool = False
) -> tuple[Tensor, Tensor]:
    """One token: x, dt (batch, channels), B, C (batch, state), state (batch, state, channels) -> y, the next state."""
    decay = torch.exp(dt.unsqueeze(1) * A.t())
    decay = 2 * decay - 1 if negative else decay
    state = decay * state + (dt * x).unsqueeze(1) * B.unsqueeze(2)
    return (C.unsqueeze(1) @ state).squeeze(1) + D * x, state


def scan_from(state: Tensor, inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """One token after the other, from ``state`` (batch, state, channels): y, the state after the last token.

    ``unbind`` splits the tokens once. Indexing inside the loop would make the backward pass quadratic in length: the
    gradient of each index is as large as the complete sequence.
    """
    x, dt, A, B, C, D = inputs[:6]
    outputs = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y_t, state = selective_scan_step(x_t, dt_t, A, B_t, C_t, D, state, inputs.negative)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1), state


def selective_scan(inputs: ScanInputs) -> Tensor:
    """The definition, one token after the other. A window is taken literally: every window is scanned from zero.

    Ignores ``gate`` and ``softplus``, as every implementation that is not fused.
    """
    x, dt, A, B, C, D, window, *_ = inputs
    if window is not None:
        # Each window becomes a row of a larger batch. Its zeros before the first token leave the state at zero.
        padded = (F.pad(part, (0, 0, window - 1, 0)) for part in (x, dt, B, C))
        x_, dt_, B_, C_ = (part.unfold(1, window, 1).transpose(2, 3).flatten(0, 1) for part in padded)
        return selective_scan(ScanInputs(x_, dt_, A, B_, C_, D, negative=inputs.negative))[:, -1].view(x.shape)
    return scan_from(x.new_zeros(x.shape[0], A.shape[1], A.shape[0]), inputs)[0]
