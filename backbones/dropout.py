"""Dropout with cheap random numbers on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dropout(x: Tensor, p: float) -> Tensor:
    """``x`` with each entry zero with probability ``p``, and else divided by 1 - p. Shape and type stay.

    On a CPU, PyTorch generates one 32-bit number per entry, which costs more than a layer norm and its gradient. Here
    one 64-bit number serves four entries, so p is rounded to a multiple of 1/65536. The factor uses the rounded p, so
    the expectation is exact. Numbers come from PyTorch's default generator.
    """
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    dropped = round(p * 2**16)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * (keep * (2**16 / (2**16 - dropped))).to(x.dtype)


class Dropout(nn.Module):
    """As ``torch.nn.Dropout``, by :func:`dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x
