"""Causal attention: softmax(Q K' / sqrt(d)) V, each token over itself and those before (Vaswani et al., 2017).

Layout: q, k, v (batch, heads, length, d).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.flops import of_attention, priced
from backbench.backbones.kernels.attention import naive
from backbench.backbones.kernels.dispatch import Implementation, Operation, missing

ALL = slice(None)


def _price(q: Tensor, k: Tensor, *_: object, window: int = 0, **__: object) -> float:
    return q.shape[0] * q.shape[2] * of_attention(q.shape[1] * q.shape[3], k.shape[2], window)


@priced(_price)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    keep: slice = ALL,
    window: int = 0,
    dropout: float = 0.0,
    implementation: str = "auto",
) -> Tensor:
    """(batch, heads, kept, d), for q at the positions ``keep`` only; k and v are of all positions.

    ``window`` tokens are seen, 0 for all up to the own one. Only `fused` implementations accept some positions or a
    window. ``dropout`` is the probability that an attention weight is dropped. Raises UserError if there is no such
    implementation.
    """
    function = ATTENTION.pick(implementation, q).function
    mask = () if keep == ALL and not window else (naive.causal_mask(k.shape[2], q.device, window)[keep],)
    return function(q, k, v, dropout, *mask)


def sdpa(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """PyTorch's fused attention."""
    if dropout > 0 and q.device.type == "cpu":
        # With dropout, PyTorch has no fused kernel for CPUs and generates random numbers slowly.
        return naive.attention(q, k, v, dropout, mask)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None)


def flash_attn(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """FlashAttention 2 from its own package, in its deterministic mode; half precision only."""
    from flash_attn import flash_attn_func

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    y: Tensor = flash_attn_func(q, k, v, dropout_p=dropout, causal=True, deterministic=True)
    return y.transpose(1, 2)


def xformers(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The memory-efficient attention of xformers; it promises no determinism."""
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    y: Tensor = memory_efficient_attention(q, k, v, attn_bias=LowerTriangularMask(), p=dropout)
    return y.transpose(1, 2)


_HALF = (torch.float16, torch.bfloat16)
_CUDA = ("cuda",)
ATTENTION = Operation(
    "attention",
    Implementation("reference", naive.attention, fused=True),
    Implementation("sdpa", sdpa, fused=True),
    # For comparison: PyTorch's own attention contains the kernels of both.
    Implementation(
        "xformers", xformers, _CUDA, (torch.float32, *_HALF), False, missing=missing("xformers", "pip install xformers")
    ),
    Implementation(
        "flash_attn", flash_attn, _CUDA, _HALF, False,
        missing=missing("flash_attn", "pip install flash-attn --no-build-isolation"),
    ),
)  # fmt: skip
