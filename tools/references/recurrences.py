"""fla's readable recurrences against our kernel, with the inputs that our mixers give it.

They are functions of PyTorch alone, but ``import fla`` needs Triton. So each file is loaded by itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels import Recurrence, linear_recurrence
from backbench.backbones.mixers.rwkv7 import RWKV7
from references.comparison import BATCH, LENGTH, RECURRENCE, Comparison, Function, Package

# Both distributions fill one folder, so they are installed by one command.
FLA_REQUIREMENTS = "flash-linear-attention==0.6.0 fla-core==0.6.0 einops==0.8.2"
FLA = Package("fla-core", FLA_REQUIREMENTS)
HEADS, KEYS, VALUES = 3, 16, 24
SCALE = KEYS**0.5  # that fla divides queries by
EPS = 1e-10  # that fla adds to the normaliser


def naive(operation: str, function: str) -> Any:
    """``function`` of fla's file ``ops/<operation>/naive.py``."""
    package = importlib.util.find_spec("fla")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "ops" / operation / "naive.py"
    spec = importlib.util.spec_from_file_location(f"fla_naive_{operation.replace('/', '_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


def inputs(kinds: str) -> list[Tensor]:
    """The tensors of these letters, the same each time.

    q, k, v: queries, unit keys, values. g, G: log decays of a head, of a channel. b, B: rates of a head up to 2, of a
    channel up to 1. c: unit directions.
    """
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(BATCH, LENGTH, HEADS, *shape, generator=generator, dtype=torch.float64)

    made = {
        "q": randn(KEYS) * KEYS**-0.5, "k": F.normalize(randn(KEYS), dim=-1), "v": randn(VALUES),
        "g": F.logsigmoid(randn()), "G": F.logsigmoid(randn(KEYS)), "b": 2 * torch.sigmoid(randn()),
        "B": torch.sigmoid(randn(KEYS)), "c": F.normalize(randn(KEYS), dim=-1),
    }  # fmt: skip
    return [made[kind] for kind in kinds]


def ours_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    o = linear_recurrence(Recurrence((F.elu(q) + 1) / SCALE, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0)))
    return o[..., :-1] / (o[..., -1:] + EPS)


def ours_retnet(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    decays = torch.log1p(-(2.0 ** (-5 - torch.arange(HEADS, dtype=q.dtype))))
    return linear_recurrence(Recurrence(q, k, v, decays.expand(BATCH, LENGTH, -1)))


def ours_decay(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    return linear_recurrence(Recurrence(q, k, v, g))


def ours_hgrn2(q: Tensor, v: Tensor, f: Tensor) -> Tensor:
    return linear_recurrence(Recurrence(q, f, v, torch.log1p(-f)))


def ours_deltanet(q: Tensor, k: Tensor, v: Tensor, b: Tensor) -> Tensor:
    return linear_recurrence(Recurrence(q, b.unsqueeze(-1) * k, v, None, -k))


def ours_gated_deltanet(q: Tensor, k: Tensor, v: Tensor, b: Tensor, g: Tensor) -> Tensor:
    return linear_recurrence(Recurrence(q, b.unsqueeze(-1) * k, v, g, -k * g.exp().unsqueeze(-1)))


def ours_rwkv7(q: Tensor, k: Tensor, v: Tensor, G: Tensor, c: Tensor, B: Tensor) -> Tensor:
    decays = RWKV7.strongest * torch.sigmoid(G)
    return linear_recurrence(Recurrence(q, k, v, decays, -c, c * B), strongest=RWKV7.strongest)


# Theirs get the function of fla's file, then the same inputs.


def linear_attention(f: Function, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return f(F.elu(q) + 1, F.elu(k) + 1, v, normalize=True)[0]


def heads_first(f: Callable[..., Any], *inputs: Tensor) -> Tensor:
    """The output of a function whose layout is (batch, heads, length, …)."""
    found = f(*(tensor.transpose(1, 2) for tensor in inputs))
    output: Tensor = found[0] if isinstance(found, tuple) else found
    return output.transpose(1, 2)


def by_head(f: Function, q: Tensor, *others: Tensor) -> Tensor:
    return heads_first(f, SCALE * q, *others)


def by_token(f: Function, q: Tensor, *others: Tensor) -> Tensor:
    return f(SCALE * q, *others)[0]


def hgrn2(f: Function, q: Tensor, v: Tensor, forgotten: Tensor) -> Tensor:
    return by_token(f, q, forgotten, v, torch.log1p(-forgotten))


def rwkv7(f: Function, q: Tensor, k: Tensor, v: Tensor, G: Tensor, c: Tensor, B: Tensor) -> Tensor:
    return by_head(f, q, k, v, -c, c * B, RWKV7.strongest * torch.sigmoid(G))


def compared(backbone: str, source: str, kinds: str, ours: Function, theirs: Function) -> Comparison:
    """A row. ``source`` is fla's operation and its function, ``kinds`` the inputs of both."""
    operation, _, function = source.partition(":")

    def sides() -> tuple[Function, Function, Sequence[Tensor]]:
        return ours, partial(theirs, naive(operation, function)), inputs(kinds)

    return Comparison(backbone, FLA, function, RECURRENCE, sides)


RECURRENCES = (
    compared("linear_attention", "linear_attn:naive_recurrent_linear_attn", "qkv", ours_linear_attention,
             linear_attention),
    compared("retnet", "retention:naive_retention", "qkv", ours_retnet, by_head),
    compared("mamba2", "simple_gla:naive_recurrent_simple_gla", "qkvg", ours_decay, by_token),
    compared("gla", "gla:naive_recurrent_gla", "qkvG", ours_decay, by_token),
    compared("hgrn2", "gla:naive_recurrent_gla", "qvB", ours_hgrn2, hgrn2),
    compared("deltanet", "delta_rule:delta_rule_recurrence", "qkvb", ours_deltanet, by_head),
    compared("gated_deltanet", "gated_delta_rule:naive_recurrent_gated_delta_rule", "qkvbg", ours_gated_deltanet,
             by_token),
    compared("rwkv7", "generalized_delta_rule/dplr:dplr_recurrence", "qkvGcB", ours_rwkv7, rwkv7),
)  # fmt: skip
