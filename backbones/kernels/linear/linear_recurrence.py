"""Linear recurrences with matrix states: linear attention, retention, state space duality, delta rules, RWKV-7.

For each batch row and head, with a state S (d_k, d_v):

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T + w_t (r_t^T S_{t-1}),      o_t = S_t^T q_t

Layout: q, k, r, w (batch, length, heads, d_k); v, o (batch, length, heads, d_v); S (batch, heads, d_k, d_v).
q and k may have one head, which all share.
The log decay g <= 0 is one number a head, (batch, length, heads), or one a channel of the keys, (…, heads, d_k).
r is ``read`` and w is ``write``, by default k. The delta rule (arXiv:2406.06484) with rate b, unit key c and decay
exp(g) is k = b c and r = -exp(g) c: it writes what lacks to v.
"""

import math

import torch
from torch import Tensor

from backbench.backbones.flops import priced
from backbench.backbones.kernels.dispatch import Implementation, Operation
from backbench.backbones.kernels.linear import naive
from backbench.backbones.kernels.linear.chunked import chunked
from backbench.backbones.kernels.linear.naive import Recurrence, of_recurrence

FEW = 4  # tokens for which stepping costs less than a chunk


def _price(r: Recurrence, *_: object, **__: object) -> float:
    batch, length, heads, d_v = r.v.shape
    return batch * length * of_recurrence(r.q.shape[-1], d_v, heads, r.read is not None)


@priced(_price)
def linear_recurrence(r: Recurrence, *, implementation: str = "auto", strongest: float = -math.inf) -> Tensor:
    """o, in v's type, from a state of zeros. Computes in single precision at least, also under autocast.

    ``strongest``: a number that no log decay is below; a faster form is used if decays in channels have one.
    Raises ValueError if the shapes do not fit each other, UserError if there is no such implementation.
    """
    return _run(r, None, implementation, strongest)[0]


@priced(_price)
def linear_recurrence_extend(
    r: Recurrence, state: Tensor, *, implementation: str = "auto", strongest: float = -math.inf
) -> tuple[Tensor, Tensor]:
    """Further tokens after ``state`` (batch, heads, d_k, d_v): o, the state after the last one. Otherwise as above."""
    wanted = (len(r.v), r.v.shape[2], r.q.shape[-1], r.v.shape[-1])
    if state.shape != wanted:
        raise ValueError(f"linear_recurrence: the state is {tuple(state.shape)}; it must be {wanted}")
    o, after = _run(r, state, implementation, strongest)
    assert after is not None
    return o, after


def _run(r: Recurrence, state: Tensor | None, implementation: str, strongest: float) -> tuple[Tensor, Tensor | None]:
    kind, wide = r.v.dtype, torch.promote_types(r.v.dtype, torch.float32)
    with torch.autocast(r.v.device.type, enabled=False):
        r = Recurrence._make(part if part is None else part.to(wide) for part in r)
        _check(r)
        entry = LINEAR_RECURRENCE.pick(implementation, r.v)
        function = reference if state is not None and r.q.shape[1] <= FEW else entry.function
        o, after = function(r, None if state is None else state.to(wide), strongest)
        return o.to(kind), after if after is None or state is None else after.to(state.dtype)


def _check(r: Recurrence) -> None:
    lead, d_k = r.v.shape[:3], r.q.shape[-1]
    keys, shared = (*lead, d_k), (*lead[:2], 1, d_k)
    same = all(part.shape in (keys, shared) for part in (r.q, r.k))
    same &= all(part is None or part.shape == keys for part in (r.read, r.write))
    same &= r.log_decay is None or r.log_decay.shape in (lead, keys)
    if r.v.dim() != 4 or not same:
        shapes = ", ".join("none" if part is None else str(tuple(part.shape)) for part in r)
        raise ValueError(f"linear_recurrence: the shapes of {', '.join(r._fields)} do not fit each other: {shapes}")
    if r.write is not None and r.read is None:
        raise ValueError("linear_recurrence: write without read; give both, or read alone")


def reference(r: Recurrence, state: Tensor | None, strongest: float = -math.inf) -> tuple[Tensor, Tensor | None]:
    """The definition, one token after the other."""
    batch, _, heads, d_v = r.v.shape
    state = r.v.new_zeros(batch, heads, r.q.shape[-1], d_v) if state is None else state
    return naive.recurrence_from(state, r)


LINEAR_RECURRENCE = Operation(
    "linear_recurrence",
    Implementation("reference", reference),  # type: ignore[arg-type]
    Implementation("chunked", chunked),  # type: ignore[arg-type]
)
