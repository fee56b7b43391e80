"""The inputs of a linear recurrence with matrix states, and its definition, to read and to test against."""

from typing import NamedTuple

import torch
from torch import Tensor


class Recurrence(NamedTuple):
    """All that a linear recurrence takes, see :mod:`backbench.backbones.kernels.linear.linear_recurrence`."""

    q: Tensor  # (batch, length, heads, d_k), or one head that all share
    k: Tensor  # (batch, length, heads, d_k), or one head that all share
    v: Tensor  # (batch, length, heads, d_v)
    log_decay: Tensor | None = None  # (batch, length, heads) or (batch, length, heads, d_k), at most 0; None for 0
    read: Tensor | None = None  # (batch, length, heads, d_k); None for no low-rank term
    write: Tensor | None = None  # (batch, length, heads, d_k); None for k


def of_recurrence(d_k: int, d_v: int, heads: int, low_rank: bool = False) -> float:
    """FLOPs per token of the step below: 5 for each entry of the states, 9 with the low-rank term.

    1 for the decay, 2 each for k v^T and S^T q, 2 each for S^T read and what is written with it.
    """
    return (9.0 if low_rank else 5.0) * heads * d_k * d_v


def recurrence_from(state: Tensor, r: Recurrence) -> tuple[Tensor, Tensor]:
    """One token after the other, from ``state`` (batch, heads, d_k, d_v): o, the state after the last token."""
    outputs = []
    parts = [[None] * r.q.shape[1] if part is None else part.unbind(1) for part in r]
    for q, k, v, log_decay, read, write in zip(*parts, strict=True):
        seen = None if read is None else read.unsqueeze(-2) @ state  # (batch, heads, 1, d_v)
        if log_decay is not None:
            decay = torch.exp(log_decay if log_decay.dim() == q.dim() else log_decay.unsqueeze(-1))
            state = decay.unsqueeze(-1) * state
        state = state + k.unsqueeze(-1) * v.unsqueeze(-2)
        if seen is not None:
            state = state + (k if write is None else write).unsqueeze(-1) * seen
        outputs.append((q.unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outputs, 1), state
