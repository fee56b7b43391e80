"""The recurrence by matrix products: tokens of one chunk see each other at once, chunks follow one another.

As in Gated Linear Attention (arXiv:2312.06635, section 4) and, for the low-rank term, the WY form of DeltaNet
(arXiv:2406.06484, section 3): what the tokens of a chunk read from each other is a triangular system.

Decays between two tokens are differences of cumulative sums. They never exceed 0, so no exponential overflows however
strong a decay is. The sums are in double precision, because a difference of large sums cancels.

If no decay of a channel is stronger than a known one, a chunk needs no differences: each factor is scaled by its decay
since, or until, half of the strongest possible sum. That half is a constant, so no bit depends on later tokens.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.linear.naive import Recurrence

CHUNK, CHUNK_OF_VECTORS = 64, 16  # tokens, with one decay for each head, or for each channel
REACH = 40.0  # most that a chunk's bounded log decays may sum up to: exp(20) times exp(20) is far from overflow


class Sums(NamedTuple):
    """Cumulative log decays within each chunk, (…, tokens, 1 or d_k), float64."""

    before: Tensor  # without the token's own decay
    after: Tensor  # with it

    def to_end(self) -> Tensor:
        """The log decay from each token to the end of its chunk."""
        return self.after[..., -1:, :] - self.after


class Tokens(NamedTuple):
    """Factors of the tokens of all chunks, (batch, heads, chunks, tokens, d_k)."""

    q: Tensor
    k: Tensor
    read: Tensor | None
    write: Tensor | None

    def scaled(self, after: Tensor, before: Tensor, since: Tensor) -> "Tokens":
        """q by exp(``after``), read by exp(``before``), both keys by exp(``since``)."""
        up, down = (torch.exp(part.to(self.q.dtype)) for part in (after, since))
        read = None if self.read is None else self.read * torch.exp(before.to(self.q.dtype))
        return Tokens(self.q * up, self.k * down, read, None if self.write is None else self.write * down)

    def decayed(self, total: Tensor) -> "Tokens":
        """Both keys times ``total``, (…, 1, d_k)."""
        return self._replace(k=self.k * total, write=None if self.write is None else self.write * total)


def chunked(r: Recurrence, initial: Tensor | None, strongest: float = -math.inf) -> tuple[Tensor, Tensor | None]:
    """o, and the state after the last token; from zeros and without that state if ``initial`` is None.

    No log decay of a channel is below ``strongest``.
    """
    strongest = strongest if -strongest <= REACH else -math.inf
    length, size = r.q.shape[1], _size(r, strongest)
    q, k, v = (_split(part, size) for part in (r.q, r.k, r.v))
    read, write = (None if part is None else _split(part, size) for part in (r.read, r.write))
    alone = v.shape[2] == 1 and initial is None  # one chunk, which meets no state
    tokens, sums, total, scale = Tokens(q, k, read, write), None, None, 1.0
    ends = tokens  # as tokens meet the states before and after their chunk
    if r.log_decay is not None:
        sums = _sums(r.log_decay, size)
        total = torch.exp(sums.after[..., -1:, :]).to(q.dtype)
        if sums.after.shape[-1] > 1 and strongest > -math.inf:
            middle = size * strongest / 2
            tokens = tokens.scaled(sums.after - middle, sums.before - middle, middle - sums.after)
            ends = tokens if alone else tokens.decayed(total)
            sums, scale = None, math.exp(middle)
        elif not alone:
            ends = tokens.scaled(sums.after, sums.before, sums.to_end())
    weights, v, solved = _within(tokens, v, sums, None if alone else ends.read)
    if alone:
        y, state = weights @ v, None
    else:
        keys = ends.k if ends.write is None else torch.cat((ends.k, ends.write), -2)
        v, states, state = _through_chunks(v, solved, keys, total, None if initial is None else initial * scale)
        y = weights @ v + ends.q @ states
    o = y.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :length]
    return o, state if state is None else state / scale


def _within(t: Tokens, v: Tensor, sums: Sums | None, reads: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Weights of values for each token, the values, and what they read from the state before their chunk by ``reads``.

    With a low-rank term, what its tokens read from each other is solved. Then its keys follow the others in all three.
    """
    if t.read is None:
        ((weights,),) = _products([t.q], [t.k], sums)
        return weights, v, None
    if t.write is None:  # k (v + S^T read): the system gives both values at once
        (weights,), (among,) = _products([t.q, t.read], [t.k], sums)
        known = v
    else:
        (seen_k, seen_w), (read_k, among) = _products([t.q, t.read], [t.k, t.write], sums)
        weights, known = torch.cat((seen_k, seen_w), -1), read_k @ v
    rhs = known if reads is None else torch.cat((known, reads), -1)
    both = torch.linalg.solve_triangular(-among, rhs, upper=False, unitriangular=True)
    own, solved = both.split([v.shape[-1], both.shape[-1] - v.shape[-1]], -1)
    if t.write is not None:  # the values themselves read nothing
        own, solved = torch.cat((v, own), -2), F.pad(solved, (0, 0, v.shape[-2], 0))
    return weights, own, None if reads is None else solved


def _through_chunks(
    v: Tensor, solved: Tensor | None, keys: Tensor, total: Tensor | None, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The values that are written, the state before each chunk, and the last one unless ``initial`` is None."""
    state = v.new_zeros(*v.shape[:2], keys.shape[-1], v.shape[-1]) if initial is None else initial
    states, values = [], []
    for i in range(v.shape[2]):
        states.append(state)
        values.append(v[:, :, i] if solved is None else v[:, :, i] + solved[:, :, i] @ state)
        if initial is not None or i + 1 < v.shape[2]:
            kept = state if total is None else total[:, :, i].mT * state
            state = kept + keys[:, :, i].mT @ values[-1]
    return torch.stack(values, 2), torch.stack(states, 2), None if initial is None else state


def _size(r: Recurrence, strongest: float) -> int:
    """Tokens of a chunk: as even as possible, or a power of 2 where chunks are halved."""
    length = r.q.shape[1]
    most = CHUNK
    if r.log_decay is not None and r.log_decay.dim() == r.q.dim():
        if strongest == -math.inf:
            return min(CHUNK_OF_VECTORS, 1 << (length - 1).bit_length())
        most = min(CHUNK, int(-REACH / min(strongest, -1e-9)))
    return math.ceil(length / math.ceil(length / most))


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
