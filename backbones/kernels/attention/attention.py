"""Causal attention: softmax(Q K' / sqrt(d)) V, each token over itself and those before (Vaswani et al., 2017).

Layout: q, k, v (batch, heads, length, d).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.dropout import dropout as drop
from backbench.backbones.kernels import accelerators
from backbench.backbones.kernels.dispatch import Operation

Attention: TypeAlias = Callable[..., Tensor]  # (q, k, v, dropout), and the mask where it is fused
ATTENTION: Operation[Attention] = Operation("attention")
ALL = slice(None)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, keep: slice = ALL, dropout: float = 0.0, implementation: str = "auto"
) -> Tensor:
    """(batch, heads, kept, d); ``dropout`` is that of the attention weights.

    Args:
        q: of the positions ``keep`` only, (batch, heads, kept, d). Only implementations that are `fused` take part of
            the positions.
        k, v: (batch, heads, length, d).

    Raises:
        UserError: no such implementation.
    """
    entry = ATTENTION.pick(implementation, q)
    if keep == ALL:
        return entry.function(q, k, v, dropout)
    return entry.function(q, k, v, dropout, causal_mask(k.shape[2], q.device)[keep])


@functools.lru_cache(maxsize=16)
def causal_mask(length: int, device: torch.device) -> Tensor:
    """(length, length) bool, true where a token may look."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


@ATTENTION.add("reference", fused=True)
def reference(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """The definition."""
    mask = causal_mask(k.shape[2], q.device) if mask is None else mask
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return drop(weights, dropout) @ v


@ATTENTION.add("sdpa", fused=True)
def sdpa(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """PyTorch's fused attention."""
    if dropout > 0 and q.device.type == "cpu":
        # With dropout, PyTorch has no fused kernel for a CPU, and draws its random numbers slowly.
        return reference(q, k, v, dropout, mask)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None)


# PyTorch's own attention has the kernels of both; they are for comparison.
_HALF = (torch.float16, torch.bfloat16)
ATTENTION.add(
    "xformers", devices=("cuda",), auto=False, missing=accelerators.xformers_missing, dtypes=(torch.float32, *_HALF)
)(accelerators.xformers_attention)
ATTENTION.add("flash_attn", devices=("cuda",), auto=False, missing=accelerators.flash_attn_missing, dtypes=_HALF)(
    accelerators.flash_attention
)
