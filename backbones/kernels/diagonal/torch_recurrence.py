"""The diagonal recurrence in plain PyTorch, with a backward pass by hand, for every device and number type."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def block_size(length: int, device: str) -> int:
    """Tokens of a block. A CPU needs one block. A GPU starts 2 sqrt(length) operations instead of ``length``."""
    return length if device == "cpu" else math.ceil(math.sqrt(length))


def recur(a: Tensor, b: Tensor, initial: Tensor, size: int) -> Tensor:
    """Every state, (length, batch, channels), from a (length, batch or 1, channels), b and initial (batch, channels).

    All blocks of ``size`` tokens start at once from zero. The products of their decays then add what came before them.
    Nothing is divided by a product of decays, so strong decays neither overflow nor cancel.
    """
    length = len(b)
    if size >= length:
        states = torch.empty_like(b)
        for t in range(length):
            initial = torch.addcmul(b[t], a[t], initial, out=states[t])
        return states
    count = -(-length // size)
    a, b = (_padded(part, count * size).view(count, size, *part.shape[1:]) for part in (a, b))
    states, products = torch.empty_like(b), torch.empty_like(a)
    states[:, 0], products[:, 0] = b[:, 0], a[:, 0]
    for t in range(1, size):
        torch.addcmul(b[:, t], a[:, t], states[:, t - 1], out=states[:, t])
        torch.mul(a[:, t], products[:, t - 1], out=products[:, t])
    starts = torch.empty_like(states[:, 0])
    starts[0] = initial
    for block in range(1, count):
        torch.addcmul(states[block - 1, -1], products[block - 1, -1], starts[block - 1], out=starts[block])
    return states.addcmul_(products, starts.unsqueeze(1)).flatten(0, 1)[:length]


def _padded(tensor: Tensor, length: int) -> Tensor:
    """``tensor`` with zeros after its last token, up to ``length`` tokens."""
    return torch.cat((tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])))


class DiagonalRecurrence(torch.autograd.Function):
    """Every state, (batch, length, channels). Saves them, and the decays.

    The gradient of h_t, and of b_t, is g_t = dh_t + conj(a_{t+1}) g_{t+1}: the same recurrence from the last token on.
    That of a_t is g_t conj(h_{t-1}).
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, initial: Tensor, size: int) -> Tensor:
        b = b.transpose(0, 1).contiguous()
        decays = a.expand(len(b), 1, -1) if a.dim() == 1 else a.transpose(0, 1)
        states = recur(decays, b, initial, size)
        ctx.save_for_backward(a, initial, states)
        ctx.size = size
        return states.transpose(0, 1).contiguous()  # the next operations are faster on it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, initial, states = ctx.saved_tensors
        constant = a.dim() == 1
        decays = a.expand(len(states), 1, -1) if constant else a.transpose(0, 1)
        decays = decays.conj().resolve_conj()
        later = decays if constant else decays.flip(0).roll(1, 0)  # the first one multiplies zero
        g = recur(later, dh.transpose(0, 1).flip(0), torch.zeros_like(initial), ctx.size).flip(0)
        before = torch.cat((initial.unsqueeze(0), states[:-1]))
        da = g * before.conj()
        da = da.sum((0, 1)) if constant else da.transpose(0, 1)
        return da, g.transpose(0, 1), decays[0] * g[0], None
