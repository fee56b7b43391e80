"""The definition of causal attention, to read and to test against."""

import functools

import torch
from torch import Tensor

from backbench.backbones.dropout import dropout as drop


def causal_mask(length: int, device: torch.device, window: int = 0) -> Tensor:
    """(length, length) bool, true where a token may look: at the last ``window`` tokens, or with 0 at all before it."""
    # A tracer's tensors have no values, so none may stay in the cache.
    return (_mask if torch.compiler.is_exporting() else _kept_mask)(length, device, window)


def _mask(length: int, device: torch.device, window: int) -> Tensor:
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return mask.triu(1 - window) if window else mask


_kept_mask = functools.lru_cache(maxsize=16)(_mask)


def attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """The definition."""
    mask = causal_mask(k.shape[2], q.device) if mask is None else mask
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return drop(weights, dropout) @ v
