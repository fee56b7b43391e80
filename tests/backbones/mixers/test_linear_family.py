"""Mixers with decays alone equal their papers' recurrences, token by token, in values and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mixer_references import D, assert_equals_loop, convolved, outer, perturbed, read, rms, split
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones import UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.gla import GLA
from backbench.backbones.mixers.hgrn2 import HGRN2
from backbench.backbones.mixers.linear_attention import LinearAttention, features
from backbench.backbones.mixers.mlstm import MLSTM
from backbench.backbones.mixers.retnet import RetNet


def linear_attention(mixer: Any, x: Tensor) -> Tensor:
    q, k, v = split(mixer.qkv_proj(x), 4, D, D, D)
    q, k = F.elu(q) + 1, F.elu(k) + 1
    rows = []
    for t in range(x.shape[1]):
        weights = torch.einsum("bhd,bshd->bsh", q[:, t], k[:, : t + 1])
        rows.append(torch.einsum("bsh,bshv->bhv", weights, v[:, : t + 1]) / (weights.sum(1).unsqueeze(-1) + 1e-6))
    return mixer.out_proj(torch.stack(rows, 1).flatten(2))  # type: ignore[no-any-return]


def gla(mixer: Any, x: Tensor) -> Tensor:
    d_k = D // 2
    q, k, v = split(mixer.in_proj(x)[..., : 2 * D], 4, d_k, d_k, D)
    decay = torch.sigmoid(mixer.decay_proj(mixer.in_proj(x)[..., 2 * D :])).pow(1 / 16).unflatten(-1, (4, -1))
    state, rows = x.new_zeros(2, 4, d_k // 4, D // 4), []
    for t in range(x.shape[1]):
        state = decay[:, t].unsqueeze(-1) * state + outer(k[:, t], v[:, t])
        rows.append(read(state, q[:, t]) / math.sqrt(d_k // 4))
    o = rms(torch.stack(rows, 1), mixer.norm.weight).flatten(2)
    return mixer.out_proj(o * F.silu(mixer.gate_proj(x)))  # type: ignore[no-any-return]


def retnet(mixer: Any, x: Tensor) -> Tensor:
    q, k, v = split(mixer.qkv_proj(x), 2, D, D, 2 * D)
    rates = torch.tensor([10_000 ** (-i / (D // 4 - 1)) for i in range(D // 4)], dtype=torch.double)
    q, k = (torch.complex(*part.chunk(2, -1)) for part in (q, k))  # a rotation is a product with exp(i angle)
    decay = torch.tensor([1 - 2**-5, 1 - 2**-6], dtype=torch.double)
    rows = []
    for t in range(x.shape[1]):
        past = torch.arange(t + 1)
        turn = torch.exp(1j * (t - past).unsqueeze(-1) * rates)
        weights = torch.einsum("bhd,sd,bshd->bsh", q[:, t], turn, k[:, : t + 1].conj()).real / math.sqrt(D // 2)
        weights = weights * decay ** (t - past).unsqueeze(-1)
        rows.append(torch.einsum("bsh,bshv->bhv", weights, v[:, : t + 1]))
    o = rms(torch.stack(rows, 1), mixer.norm.weight).flatten(2)
    return mixer.out_proj(o * F.silu(mixer.gate_proj(x)))  # type: ignore[no-any-return]


def hgrn2(mixer: Any, x: Tensor) -> Tensor:
    q, f, v = split(mixer.in_proj(x), 4, D, D, D)
    bound = mixer.spec.layer / 2
    f = bound + (1 - bound) * torch.sigmoid(f)
    state, rows = x.new_zeros(2, 4, D // 4, D // 4), []
    for t in range(x.shape[1]):
        state = f[:, t].unsqueeze(-1) * state + outer(1 - f[:, t], v[:, t])
        rows.append(read(state, F.silu(q[:, t])))
    return mixer.out_proj(rms(torch.stack(rows, 1).flatten(2), mixer.norm.weight))  # type: ignore[no-any-return]


def mlstm(mixer: Any, x: Tensor) -> Tensor:
    u, z = mixer.in_proj(x).chunk(2, -1)
    c = convolved(mixer.conv, u)
    q, k, v = (part @ torch.block_diag(*w).T for part, w in zip((c, c, u), mixer.qkv, strict=True))
    a, b = mixer.gates(torch.cat((q, k, v), -1)).chunk(2, -1)
    q, k, v = (part.unflatten(-1, (4, -1)) for part in (q, k, v))
    state, total, rows = x.new_zeros(2, 4, D // 2, D // 2), x.new_zeros(2, 4, D // 2), []
    for t in range(x.shape[1]):  # without a stabiliser
        i, f = a[:, t, :, None].exp(), b[:, t, :, None].sigmoid()
        key = k[:, t] / math.sqrt(D // 2)
        state, total = f.unsqueeze(-1) * state + outer(i * key, v[:, t]), f * total + i * key
        h = read(state, q[:, t]) / (total * q[:, t]).sum(-1, keepdim=True).abs().clamp(min=1)
        rows.append((h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt())
    h = torch.stack(rows, 1).flatten(2) * mixer.norm + mixer.skip * c
    return mixer.out_proj(h * F.silu(z))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("cls", "loop", "layer", "options"),
    [
        (LinearAttention, linear_attention, 0, {}), (GLA, gla, 0, {}), (RetNet, retnet, 0, {"n_heads": 2}),
        (HGRN2, hgrn2, 0, {}), (HGRN2, hgrn2, 1, {}),
    ],
)  # fmt: skip
def test_a_mixer_equals_its_papers_recurrence(cls: Any, loop: Any, layer: int, options: dict[str, Any]) -> None:
    assert_equals_loop(perturbed(cls, layer, **options), loop)


def test_mlstm_equals_its_recurrence_without_a_stabiliser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbench.backbones.mixers.mlstm.EPS", 0.0)  # which the paper does not have
    assert_equals_loop(perturbed(MLSTM), mlstm)


def test_mlstm_stays_finite_where_its_gates_would_overflow() -> None:
    mixer = perturbed(MLSTM).float()
    with torch.no_grad():
        mixer.gates.bias[:4] = 200.0
        mixer.gates.bias[4:] = -200.0
    x = torch.randn(2, 130, D).requires_grad_()
    y = mixer(x)
    y.square().sum().backward()
    assert bool(y.isfinite().all())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in mixer.parameters())


@pytest.mark.parametrize(("name", "options", "message"), [
    ("gla", {"n_heads": 3}, "gla: n_heads=3 does not divide the 16 channels"),
    ("gla", {"shrink_k": 3}, "gla: d_model=32 is not a multiple of shrink_k=3"),
    ("retnet", {"n_heads": 32}, "retnet: heads of 1 channels do not rotate in pairs; give another n_heads"),
    ("linear_attention", {"n_heads": 0}, "linear_attention: n_heads=0; give at least 1"),
    ("hgrn2", {"kernels": "fla"}, "linear_recurrence has no implementation 'fla'"),
    ("mlstm", {"d_conv": 0}, "mlstm: d_conv=0; give at least 1"),
    ("rwkv7", {"rank": 0}, "rwkv7: rank=0; give at least 1"),
    ("rwkv7", {"n_heads": 32}, "rwkv7: n_heads=32 gives heads of one channel, which their norm makes zero"),
    ("mlstm", {"n_heads": 64}, "mlstm: n_heads=64 gives heads of one channel, which their norm makes zero"),
    ("deltanet", {"expand_v": 0}, "deltanet: expand_v=0; give at least 1"),
    ("gated_deltanet", {"n_heads": 5}, "gated_deltanet: n_heads=5 does not divide the 32 channels"),
    ("mamba2", {"d_state": 0}, "mamba2: d_state=0; give at least 1"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, options, Spec(32))


# Parameters of a mixer of width 128, FLOPs per token besides those of its linear layers and convolutions.
GOLDEN = {
    "linear_attention": (66_048, 5 * 4 * 32 * 33), "retnet": (131_136, 5 * 4 * 32 * 64),
    "gla": (68_704, 5 * 4 * 16 * 32), "hgrn2": (65_664, 5 * 4 * 32 * 32),
    "mlstm": (109_320, 5 * 4 * 64 * 65 + 2 * 3 * 64 * 16), "mamba2": (117_388, 5 * 4 * 64 * 64),
    "deltanet": (67_616, 9 * 4 * 32 * 32), "gated_deltanet": (134_216, 9 * 4 * 32 * 64),
    "rwkv7": (91_776, 9 * 4 * 32 * 32),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_and_flops_stay(name: str) -> None:
    mixer = build(name, None, Spec(128)).get_submodule("layers.0.mixer")
    layers = [layer for layer in mixer.modules() if isinstance(layer, nn.Linear | nn.Conv1d)]
    products = sum(2 * layer.weight.numel() for layer in layers)
    assert sum(parameter.numel() for parameter in mixer.parameters()) == GOLDEN[name][0]
    assert mixer.flops(60) - products == GOLDEN[name][1]


@pytest.mark.parametrize("name", GOLDEN)
def test_half_precision_stays_close_to_single_precision(name: str) -> None:
    torch.manual_seed(0)
    model, x = build(name, None, Spec(16, n_layers=2, max_length=30)).eval(), torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    half.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    torch.testing.assert_close(half.float(), model(x), atol=0.1, rtol=0.1)


def test_features_of_linear_attention_do_not_cancel() -> None:
    x = torch.tensor([-30.0, -20.0, -1.0, 0.0, 2.0])
    expected = torch.where(x > 0, x.double() + 1, x.double().exp())
    torch.testing.assert_close(features(x).double(), expected, rtol=1e-6, atol=0)
