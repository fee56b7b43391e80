"""Causal attention: softmax(Q K' / sqrt(d)) V, each token over itself and those before (Vaswani et al., 2017).

Layout: q, k, v (batch, heads, length, d).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.dispatch import Operation

Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, float], Tensor]
ATTENTION: Operation[Attention] = Operation("attention")


def attention(q: Tensor, k: Tensor, v: Tensor, *, dropout: float = 0.0, implementation: str = "auto") -> Tensor:
    """(batch, heads, length, d); ``dropout`` is that of the attention weights. UserError: no such implementation."""
    return ATTENTION.pick(implementation, q)(q, k, v, dropout)


@ATTENTION.add("reference")
def reference(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The definition."""
    length = q.shape[2]
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(future, float("-inf")).softmax(-1)
    return F.dropout(weights, dropout) @ v


@ATTENTION.add("sdpa")
def sdpa(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """PyTorch's fused attention."""
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
