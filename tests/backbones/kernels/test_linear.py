"""The chunked linear recurrence equals its definition in values and gradients, from any state, at any decay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones import UserError
from backbench.backbones.kernels import Recurrence, linear_recurrence, linear_recurrence_extend

DECAYS = ("none", "head", "channel")
LOW_RANK = ("none", "delta", "general")
D_K, D_V = 5, 3


def inputs(length: int, decay: str, low_rank: str, dtype: torch.dtype, strength: str = "mixed") -> list[Tensor]:
    """q, k, v, then log decay, read and write where there are any; rates of the delta rule are in [0, 2]."""
    g = torch.Generator().manual_seed(length)

    def randn(*shape: int) -> Tensor:
        return torch.randn(2, length, 2, *shape, generator=g, dtype=torch.float64)

    q, k, v = randn(D_K), F.normalize(randn(D_K), dim=-1), randn(D_V)
    shape = () if decay == "head" else (D_K,)
    logs = torch.tensor({"mixed": [0.0, -0.01, -1.0, -50.0], "strong": [-50.0], "zero": [0.0],
                         "bounded": [0.0, -0.01, -0.6], "least": [-0.6]}[strength])  # fmt: skip
    g_t = logs.double()[torch.randint(len(logs), (2, length, 2, *shape), generator=g)]
    rate = 2 * torch.rand(2, length, 2, 1, generator=g, dtype=torch.float64)
    rate[:, ::3] = 2.0
    made = [q, k, v] if decay == "none" else [q, k, v, g_t]
    if low_rank == "delta":
        decayed = {"none": torch.tensor(1.0), "head": g_t.exp().unsqueeze(-1), "channel": g_t.exp()}[decay]
        made = [q, rate * k, *made[2:], -decayed * k]
    elif low_rank == "general":  # diagonal plus low rank, within the unit circle as in RWKV-7
        made += [-F.normalize(randn(D_K), dim=-1), rate / 2 * F.normalize(randn(D_K), dim=-1)]
    return [t.to(dtype).requires_grad_() for t in made]


def recurrence(tensors: tuple[Tensor, ...], decay: str) -> Recurrence:
    q, k, v, *rest = tensors
    return Recurrence(q, k, v, *([None] if decay == "none" else []), *rest)


def compare(
    length: int, decay: str, low_rank: str, dtype: torch.dtype, strength: str = "mixed", strongest: float = -math.inf
) -> None:
    made = inputs(length, decay, low_rank, dtype, strength)
    state = torch.randn(2, 2, D_K, D_V, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()

    def run(implementation: str) -> Any:
        def function(*tensors: Tensor) -> Tensor:
            *tensors, initial = tensors  # type: ignore[assignment]
            how: Any = {"implementation": implementation, "strongest": strongest}
            o, after = linear_recurrence_extend(recurrence(tensors, decay), initial, **how)
            fresh = linear_recurrence(recurrence(tensors, decay), **how)
            return torch.cat((o.flatten(), fresh.flatten(), after.flatten()))

        return values_and_gradients(function, [*made, state])

    assert_equal(run("chunked"), run("reference"), 1e-12 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("low_rank", LOW_RANK)
@pytest.mark.parametrize("length", [1, 7, 64, 131])
def test_chunks_equal_the_definition(length: int, decay: str, low_rank: str) -> None:
    compare(length, decay, low_rank, torch.float64)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("low_rank", LOW_RANK)
def test_chunks_equal_the_definition_in_single_precision(decay: str, low_rank: str) -> None:
    compare(70, decay, low_rank, torch.float32)


@pytest.mark.parametrize("decay", ["head", "channel"])
@pytest.mark.parametrize("strength", ["strong", "zero"])
def test_decays_may_be_strong_or_none(decay: str, strength: str) -> None:
    compare(70, decay, "delta", torch.float32, strength)


@pytest.mark.parametrize("low_rank", LOW_RANK)
@pytest.mark.parametrize("length", [1, 7, 64, 131])
def test_chunks_of_bounded_decays_equal_the_definition(length: int, low_rank: str) -> None:
    compare(length, "channel", low_rank, torch.float64, "bounded", -0.6)


@pytest.mark.parametrize("strength", ["bounded", "least", "zero"])
@pytest.mark.parametrize("strongest", [-0.6, -3.0, -50.0])
def test_bounded_decays_may_all_be_the_strongest_or_none(strength: str, strongest: float) -> None:
    compare(70, "channel", "general", torch.float32, strength, strongest)


@pytest.mark.parametrize("strongest", [-math.inf, -0.6])
def test_no_bit_of_an_output_depends_on_later_tokens(strongest: float) -> None:
    tensors = tuple(t.detach() for t in inputs(100, "channel", "general", torch.float32, "bounded"))
    later = tuple(t.detach() for t in inputs(100, "channel", "general", torch.float32, "least"))
    y = linear_recurrence(recurrence(tensors, "channel"), strongest=strongest)
    for at in (1, 31, 32, 49, 50, 51, 99):
        mixed = tuple(torch.cat((a[:, :at], 2 * b[:, at:] if i != 3 else b[:, at:]), 1)
                      for i, (a, b) in enumerate(zip(tensors, later, strict=True)))  # fmt: skip
        assert torch.equal(linear_recurrence(recurrence(mixed, "channel"), strongest=strongest)[:, :at], y[:, :at])


def test_heads_may_share_queries_and_keys() -> None:
    q, k, v, g = inputs(70, "head", "none", torch.float64)
    shared = linear_recurrence(Recurrence(q[:, :, :1], k[:, :, :1], v, g))
    each = linear_recurrence(Recurrence(q[:, :, :1].expand_as(q), k[:, :, :1].expand_as(k), v, g))
    torch.testing.assert_close(shared, each, atol=1e-12, rtol=1e-12)


def test_pieces_from_state_to_state_equal_the_complete_sequence() -> None:
    tensors = [t.detach() for t in inputs(131, "channel", "general", torch.float64)]
    state, outputs, start = torch.zeros(2, 2, D_K, D_V, dtype=torch.float64), [], 0
    for count in (1, 3, 40, 1, 86):
        piece = recurrence(tuple(t[:, start : start + count] for t in tensors), "channel")
        o, state = linear_recurrence_extend(piece, state)
        outputs.append(o)
        start += count
    whole = linear_recurrence(recurrence(tuple(tensors), "channel"))
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=1e-12, rtol=1e-12)


def test_shapes_that_do_not_fit_are_refused() -> None:
    q, k, v = inputs(5, "none", "none", torch.float32)
    with pytest.raises(ValueError, match="do not fit each other"):
        linear_recurrence(Recurrence(q, k[:, :4], v))
    with pytest.raises(ValueError, match="write without read"):
        linear_recurrence(Recurrence(q, k, v, write=k))
    with pytest.raises(ValueError, match="the state is"):
        linear_recurrence_extend(Recurrence(q, k, v), torch.zeros(2, 2, 1, 1))
    with pytest.raises(UserError, match="no implementation 'fast'"):
        linear_recurrence(Recurrence(q, k, v), implementation="fast")
