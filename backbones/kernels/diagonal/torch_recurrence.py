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
    """Every state, (batch, length, channels), from a (batch or 1, length, channels), b and initial (batch, channels).

    All blocks of ``size`` tokens start at once from zero. The products of their decays then add what came before them.
    Nothing is divided by a product of decays, so strong decays neither overflow nor cancel.
    """
    batch, length, channels = b.shape
    if size >= length:
        states = b.new_empty(b.shape)
        for a_t, b_t, h_t in zip(a.unbind(1), b.unbind(1), states.unbind(1), strict=True):
            initial = torch.addcmul(b_t, a_t, initial, out=h_t)
        return states
    count = -(-length // size)
    a, b = (_padded(part, count * size).view(len(part), count, size, channels) for part in (a, b))
    states, products = torch.empty_like(b), torch.empty_like(a)
    states[:, :, 0], products[:, :, 0] = b[:, :, 0], a[:, :, 0]
    for t in range(1, size):
        torch.addcmul(b[:, :, t], a[:, :, t], states[:, :, t - 1], out=states[:, :, t])
        torch.mul(a[:, :, t], products[:, :, t - 1], out=products[:, :, t])
    starts = b.new_empty(batch, count, channels)
    starts[:, 0] = initial
    for block in range(1, count):
        ends = states[:, block - 1, -1], products[:, block - 1, -1]
        torch.addcmul(*ends, starts[:, block - 1], out=starts[:, block])
    return states.addcmul_(products, starts.unsqueeze(2)).flatten(1, 2)[:, :length]


def recur_back(a: Tensor, dh: Tensor, size: int) -> Tensor:
    """g_t = dh_t + a_{t+1} g_{t+1}, from the last token on: the gradient of each state, with the conjugate of a."""
    if size < dh.shape[1]:
        later = a.flip(1).roll(1, 1)  # its first entry multiplies zero
        return recur(later, dh.flip(1), dh.new_zeros(len(dh), dh.shape[2]), size).flip(1)
    g = dh.new_empty(dh.shape)
    g[:, -1] = dh[:, -1]
    for t in range(dh.shape[1] - 2, -1, -1):
        torch.addcmul(dh[:, t], a[:, t + 1], g[:, t + 1], out=g[:, t])
    return g


def _padded(tensor: Tensor, length: int) -> Tensor:
    """``tensor`` with zeros after its last token, up to ``length`` tokens."""
    rows, known, channels = tensor.shape
    return torch.cat((tensor, tensor.new_zeros(rows, length - known, channels)), 1)


class DiagonalRecurrence(torch.autograd.Function):
    """Every state, (batch, length, channels). Saves them, and the decays.

    The gradient of h_t is also that of b_t. That of a_t is g_t conj(h_{t-1}).
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, initial: Tensor, size: int) -> Tensor:
        states = recur(a.expand(1, *b.shape[1:]) if a.dim() == 1 else a, b, initial, size)
        ctx.save_for_backward(a, initial, states)
        ctx.size = size
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, initial, states = ctx.saved_tensors
        decays = (a.expand(1, *dh.shape[1:]) if a.dim() == 1 else a).conj().resolve_conj()
        g = recur_back(decays, dh, ctx.size)
        da = torch.empty_like(g)
        torch.mul(g[:, 1:], states[:, :-1].conj(), out=da[:, 1:])
        torch.mul(g[:, 0], initial.conj(), out=da[:, 0])
        return da.sum((0, 1)) if a.dim() == 1 else da, g, decays[:, 0] * g[:, 0], None
