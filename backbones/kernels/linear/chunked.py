"""The recurrence by matrix products: tokens of one chunk see each other at once, chunks follow one another.

As in Gated Linear Attention (arXiv:2312.06635, section 4) and, for the low-rank term, the WY form of DeltaNet
(arXiv:2406.06484, section 3): what the tokens of a chunk read from each other is a triangular system.

Decays between two tokens are differences of cumulative sums. They never exceed 0, so no exponential overflows however
strong a decay is. The sums are in double precision, because a difference of large sums cancels.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.linear.naive import Recurrence

CHUNK, CHUNK_OF_VECTORS = 64, 16  # tokens, with one decay for each head, or for each channel of the keys


class Sums(NamedTuple):
    """Cumulative log decays within each chunk, (…, tokens, 1 or d_k), float64."""

    before: Tensor  # without the token's own decay
    after: Tensor  # with it

    def to_end(self) -> Tensor:
        """The log decay from each token to the end of its chunk."""
        return self.after[..., -1:, :] - self.after


def chunked(r: Recurrence, initial: Tensor | None, final: bool) -> tuple[Tensor, Tensor | None]:
    """o, and the state after the last token if ``final``; ``initial`` None is zero."""
    length, size = r.q.shape[1], _size(r)
    q, k, v = (_split(part, size) for part in (r.q, r.k, r.v))
    read, write = (None if part is None else _split(part, size) for part in (r.read, r.write))
    sums = None if r.log_decay is None else _sums(r.log_decay, size)
    after = None if sums is None else sums.after
    to_end = None if sums is None else sums.to_end()
    keys, solved = _scaled(k, to_end), None
    if read is None:
        ((weights,),) = _products([q], [k], sums)
    else:
        reads = _scaled(read, None if sums is None else sums.before)
        if write is None:  # k (v + S^T read): the system gives both values at once
            (weights,), (among,) = _products([q, read], [k], sums)
            rhs = torch.cat((v, reads), -1)
        else:
            (seen_k, seen_w), (read_k, among) = _products([q, read], [k, write], sums)
            rhs = torch.cat((read_k @ v, reads), -1)
            weights, keys = torch.cat((seen_k, seen_w), -1), torch.cat((keys, _scaled(write, to_end)), -2)
        both = torch.linalg.solve_triangular(-among, rhs, upper=False, unitriangular=True)
        own, solved = both.split([v.shape[-1], reads.shape[-1]], -1)
        v = own if write is None else torch.cat((v, own), -2)
        if write is not None:  # the values themselves read nothing
            solved = torch.cat((torch.zeros_like(solved), solved), -2)
    total = None if after is None else torch.exp(after[..., -1, :]).to(q.dtype).unsqueeze(-1)
    o, state = _through_chunks(v, solved, keys, total, initial, final)
    y = weights @ o[0]
    if o[1] is not None:
        y = y + _scaled(q, after) @ o[1]
    return y.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length], state


def _through_chunks(
    v: Tensor, solved: Tensor | None, keys: Tensor, total: Tensor | None, initial: Tensor | None, final: bool
) -> tuple[tuple[Tensor, Tensor | None], Tensor | None]:
    """(the values that are written, the state before each chunk or None if all are zero), the last state."""
    chunks = v.shape[2]
    if chunks == 1 and initial is None:
        return (v, None), keys[:, :, 0].mT @ v[:, :, 0] if final else None
    state = initial if initial is not None else v.new_zeros(*v.shape[:2], keys.shape[-1], v.shape[-1])
    states, values = [], []
    for i in range(chunks):
        states.append(state)
        values.append(v[:, :, i] if solved is None else v[:, :, i] + solved[:, :, i] @ state)
        if final or i + 1 < chunks:
            kept = state if total is None else total[:, :, i] * state
            state = kept + keys[:, :, i].mT @ values[-1]
    return (torch.stack(values, 2), torch.stack(states, 2)), state if final else None


def _size(r: Recurrence) -> int:
    """Tokens of a chunk."""
    length = r.q.shape[1]
    if r.log_decay is None or r.log_decay.dim() < r.q.dim():
        return min(CHUNK, length)
    size = 1
    while size < min(CHUNK_OF_VECTORS, length):
        size *= 2
    return size


def _split(x: Tensor, size: int) -> Tensor:
    """(batch, length, heads, d) -> (batch, heads, chunks, size, d), padded with zeros at the end."""
    x = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % size)) if x.shape[1] % size else x
    return torch.unflatten(x, 1, (-1, size)).permute(0, 3, 1, 2, 4)


def _sums(log_decay: Tensor, size: int) -> Sums:
    g = _split(log_decay.unsqueeze(-1) if log_decay.dim() == 3 else log_decay, size).double()
    after = g.cumsum(-2)
    return Sums(after - g, after)


def _scaled(x: Tensor, log_decay: Tensor | None) -> Tensor:
    return x if log_decay is None else x * torch.exp(log_decay.to(x.dtype))


def _products(rows: list[Tensor], columns: list[Tensor], sums: Sums | None) -> list[list[Tensor]]:
    """x_t · y_s, decayed from s to t, (…, tokens, tokens), for each of ``rows`` and each of ``columns``.

    The first of ``rows`` sees s <= t, another s < t without the decay of t. Zero elsewhere.
    """
    if sums is None:
        return [[(x @ y.mT).tril(-i) for y in columns] for i, x in enumerate(rows)]
    tos = [sums.after, sums.before][: len(rows)]
    if sums.after.shape[-1] == 1:
        decays = [_decays(to, sums.after, -i, rows[0].dtype) for i, to in enumerate(tos)]
        return [[(x @ y.mT) * decay for y in columns] for x, decay in zip(rows, decays, strict=True)]
    x, y, to = (torch.stack(parts, -2) for parts in (rows, columns, tos))  # (…, tokens, rows or columns, d_k)
    grid = _halves(x, y, to, sums.after)
    return [[grid[..., i, :, j] for j in range(len(columns))] for i in range(len(rows))]


def _decays(to: Tensor, since: Tensor, diagonal: int, dtype: torch.dtype) -> Tensor:
    """exp(to_t - since_s), (…, tokens, tokens), zero where s > t + ``diagonal``."""
    tokens = to.shape[-2]
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=to.device).triu(diagonal + 1)
    return torch.exp((to - since.mT).to(dtype).masked_fill(later, -torch.inf))


def _halves(x: Tensor, y: Tensor, to: Tensor, since: Tensor) -> Tensor:
    """`_products` for a decay in each channel, (…, tokens, rows, tokens, columns).

    The later half sees the earlier one through the moment between them: both factors are decays. Within a half it is
    done again, down to single tokens.
    """
    tokens, rows, columns = since.shape[-2], x.shape[-2], y.shape[-2]
    if tokens == 1:
        own = (x[..., :1, :].unsqueeze(-2) * y.unsqueeze(-3)).sum(-1)  # (…, 1, 1, columns): only the first row sees it
        return F.pad(own, (0, 0, 0, rows - 1)).unsqueeze(-2)
    half = tokens // 2
    between = since[..., half - 1 : half, :]
    later = _scaled(x[..., half:, :, :], to[..., half:, :, :] - between.unsqueeze(-2)).flatten(-3, -2)
    earlier = _scaled(y[..., :half, :, :], (between - since[..., :half, :]).unsqueeze(-2)).flatten(-3, -2)
    across = torch.unflatten(torch.unflatten(later @ earlier.mT, -1, (half, columns)), -3, (half, rows))
    x, y, to = (torch.unflatten(part, -3, (2, half)) for part in (x, y, to))
    top, bottom = _halves(x, y, to, torch.unflatten(since, -2, (2, half))).unbind(-5)
    return torch.cat((F.pad(top, (0, 0, 0, half)), torch.cat((across, bottom), -2)), -4)
