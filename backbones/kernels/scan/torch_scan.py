"""The selective scan as an autograd function in plain PyTorch, written for one CPU thread.

It is fast because buffers are time-major, so a time step is contiguous. Batch rows are scanned in blocks whose state
fits the cache. Operations write into existing buffers. Channels lie innermost, so sums over states are matrix products
or run over complete vectors. The backward pass recomputes the decays exp(dt A) instead of storing them.

Nothing depends on the order of threads, so the bits are the same from run to run.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of one block's state. With its operands it fits the second-level cache.
BLOCK = 1 << 17


def windowed_sum(dt: Tensor, window: int) -> Tensor:
    """(length, ...): the sum over each token and the window-1 before it, summed directly so that nothing cancels."""
    total = dt.clone()
    for shift in range(1, min(window, len(dt))):
        total[shift:] += dt[:-shift]
    return total


def time_major(*tensors: Tensor) -> list[Tensor]:
    """(batch, length, d) -> contiguous (length, batch, d)."""
    return [tensor.transpose(0, 1).contiguous() for tensor in tensors]


class SelectiveScan(torch.autograd.Function):
    """y_t = sum_n C_t h_t: the scan without its skip D x_t. States are laid out (batch, state, channels).

    With a window w, the state of the last w tokens alone is h_t - exp(A S_t) h_{t-w}, where S_t is the sum of dt over
    them. ``save`` tells whether gradients will be needed: under ``no_grad``, ``ctx.needs_input_grad`` does not.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, window: int | None, negative: bool, save: bool
    ) -> Tensor:
        A = A.t().contiguous()
        x, dt, B, C = time_major(x, dt, B, C)
        y = torch.empty_like(x)
        # A GPU needs one large block to be busy.
        rows = max(1, BLOCK // A.numel()) if x.device.type == "cpu" else x.shape[1]
        blocks = [slice(start, start + rows) for start in range(0, x.shape[1], rows)]
        states = [
            _forward(x[:, block], dt[:, block], A, B[:, block], C[:, block], (window, negative), y[:, block], save)
            for block in blocks
        ]
        if save:
            ctx.save_for_backward(x, dt, A, B, C, *states)
            ctx.kind, ctx.blocks = (window, negative), blocks
        return y.transpose(0, 1).contiguous()  # the next operations are faster on it

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, *states = ctx.saved_tensors
        (dy,) = time_major(dy)
        dx, ddt, dA, dB, dC = (torch.empty_like(tensor) for tensor in (x, dt, A, B, C))
        dA.zero_()
        for block, h in zip(ctx.blocks, states, strict=True):
            inputs = (x[:, block], dt[:, block], A, B[:, block], C[:, block])
            grads = (dx[:, block], ddt[:, block], dA, dB[:, block], dC[:, block])
            _backward(*inputs, h, ctx.kind, dy[:, block], grads)
        dx, ddt, dB, dC = (grad.transpose(0, 1) for grad in (dx, ddt, dB, dC))
        return dx, ddt, dA.t().contiguous(), dB, dC, None, None, None


def _forward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, kind: tuple[int | None, bool], y: Tensor, save: bool
) -> Tensor:
    """Scan one block of rows into ``y``; returns its states, (length, rows, state, channels), if ``save``.

    ``kind`` is the window, and whether decays are negative.
    """
    (length, batch), (window, negative) = x.shape[:2], kind
    u = dt * x
    sums = windowed_sum(dt, window) if window else dt
    keep = length if save else min(length, (window or 1) + 1)  # else a ring of the states that are still needed
    states = x.new_empty(keep, batch, *A.shape)
    work = torch.empty_like(states[0])
    for t in range(length):
        h = states[t % keep]
        torch.mul(u[t].unsqueeze(1), B[t].unsqueeze(2), out=h)
        if t > 0:
            torch.mul(dt[t].unsqueeze(1), A, out=work).exp_()
            if negative:
                work.mul_(2).sub_(1)
            h.addcmul_(work, states[(t - 1) % keep])
        if window and t >= window:
            torch.mul(sums[t].unsqueeze(1), A, out=work).exp_()
            h = torch.addcmul(h, work, states[(t - window) % keep], value=-1, out=work)
        torch.bmm(C[t].unsqueeze(1), h, out=y[t].unsqueeze(1))
    return states


def _backward(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor,
    states: Tensor, kind: tuple[int | None, bool], dy: Tensor, grads: tuple[Tensor, ...],
) -> None:  # fmt: skip
    """The gradients of one block of rows, written into ``grads`` = (dx, ddt, dA, dB, dC), and added to dA.

    ``g`` is the gradient of h_t. With the decay a_t = exp(dt_t A), the exponent's gradient is (a_t g_t) h_{t-1}, where
    a_t g_t is also the gradient that h_{t-1} receives. A negative decay 2 exp(dt_t A) - 1 has the slope a_t + 1.
    """
    (dx, ddt, dA, dB, dC), (window, negative) = grads, kind
    length = len(x)
    u = dt * x
    du = torch.empty_like(u)
    ddt[0] = 0
    g = torch.zeros_like(states[0])
    work, total = torch.empty_like(g), torch.zeros_like(g)
    if window:
        sums = windowed_sum(dt, window)
        dsums = torch.zeros_like(sums)
        decays = torch.empty_like(states[:window])  # ring of the gradients that y_{t+w} sends to h_t
        end = torch.empty_like(g)
    for t in range(length - 1, -1, -1):
        h, dy_t = states[t], dy[t].unsqueeze(1)
        if window and t + window < length:
            g.sub_(decays[t % window])
        g.addcmul_(C[t].unsqueeze(2), dy_t)
        if window and t >= window:
            old, decay = states[t - window], decays[t % window]
            torch.mul(sums[t].unsqueeze(1), A, out=decay).exp_()
            torch.mul(decay, old, out=work)
            torch.sub(h, work, out=end)
            h = end
            decay.mul_(dy_t).mul_(C[t].unsqueeze(2))
            torch.mul(decay, old, out=work)
            total.addcmul_(work, sums[t].unsqueeze(1), value=-1)
            torch.sum(work.mul_(A), 1, out=dsums[t])
        torch.bmm(h, dy_t.transpose(1, 2), out=dC[t].unsqueeze(2))
        torch.bmm(g, u[t].unsqueeze(2), out=dB[t].unsqueeze(2))
        torch.bmm(B[t].unsqueeze(1), g, out=du[t].unsqueeze(1))
        if t > 0:
            torch.mul(dt[t].unsqueeze(1), A, out=work).exp_()
            if negative:
                work.mul_(2).mul_(g)
                torch.sub(work, g, out=g)
                work.mul_(states[t - 1])
            else:
                g.mul_(work)
                torch.mul(g, states[t - 1], out=work)
            total.addcmul_(work, dt[t].unsqueeze(1))
            torch.sum(work.mul_(A), 1, out=ddt[t])
    if window != 1:  # a memory of one token never decays: the sum is only rounding errors
        dA += total.sum(0)
    if window:
        ddt -= windowed_sum(dsums.flip(0), window).flip(0)  # the transpose: sums over later tokens
    ddt.addcmul_(du, x)
    torch.mul(du, dt, out=dx)
