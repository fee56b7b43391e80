"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOW = -(2**15)  # of 16 bits


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` with each entry zero with probability ``p``, and else divided by 1 - p; shape and type stay.

    On a CPU PyTorch draws one 32-bit number an entry, which costs more than a layer norm and its gradient. Here one
    64-bit number makes four entries, so p is a multiple of 1/65536; the expectation stays exact, as the factor is that
    of the p that is used. Numbers come from PyTorch's default generator.
    """
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = round(p * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= LOW + dropped
    return x * (keep * (2**16 / (2**16 - dropped))).to(x.dtype)


class Dropout(nn.Module):
    """As ``torch.nn.Dropout``, by :func:`dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x
