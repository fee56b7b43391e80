"""DeltaNet, Gated DeltaNet and RWKV-7 equal their papers' recurrences and, where it runs, transformers' layer."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest
import torch
from mixer_references import D, assert_equals_loop, convolved, outer, perturbed, read, rms, split
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.mixers.deltanet import DeltaNet, GatedDeltaNet
from backbench.backbones.mixers.rwkv7 import RWKV7

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def deltanet(mixer: Any, x: Tensor) -> Tensor:
    values, gated = mixer.options.expand_v * D, isinstance(mixer, GatedDeltaNet)
    q, k, v = split(convolved(mixer.conv, mixer.qkv_proj(x)), 4, D, D, values)
    q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
    rate = mixer.rate_proj(x).sigmoid() * (2 if mixer.options.negative else 1)
    decay = torch.ones_like(rate)
    if gated:
        step = F.softplus(mixer.dt_proj(x) + mixer.time_step.dt_bias)
        decay = torch.exp(-mixer.time_step.A_log.exp() * step)
    state, rows = x.new_zeros(2, 4, D // 4, values // 4), []
    for t in range(x.shape[1]):
        state = decay[:, t, :, None, None] * state
        state = state + outer(rate[:, t].unsqueeze(-1) * k[:, t], v[:, t] - read(state, k[:, t]))
        rows.append(read(state, q[:, t]) / math.sqrt(D // 4))
    o = rms(torch.stack(rows, 1), mixer.norm.weight).flatten(2)
    return mixer.out_proj(o * F.silu(mixer.gate_proj(x)) if gated else o)  # type: ignore[no-any-return]


def rwkv7(mixer: Any, x: Tensor) -> Tensor:
    before = F.pad(x, (0, 0, 1, -1))
    x_r, x_w, x_k, x_v, x_a, x_g = (x + (before - x) * part for part in mixer.mixture)
    r, k, v = mixer.r_proj(x_r), mixer.k_proj(x_k), mixer.v_proj(x_v)
    d = mixer.decay_bias + mixer.decay_up(torch.tanh(mixer.decay_down(x_w)))
    w = torch.exp(-math.exp(-0.5) * torch.sigmoid(d))
    a = torch.sigmoid(mixer.rate_bias + mixer.rate_up(mixer.rate_down(x_a)))
    c = k * mixer.removed
    k = k * (1 + (a - 1) * mixer.rate_of_key)
    r, k, v, w, a, c, bonus = (part.unflatten(-1, (4, -1)) for part in (r, k, v, w, a, c, mixer.bonus))
    c = c / c.norm(dim=-1, keepdim=True)
    state, rows = x.new_zeros(2, 4, D // 4, D // 4), []
    for t in range(x.shape[1]):
        transition = torch.diag_embed(w[:, t]) - outer(a[:, t] * c[:, t], c[:, t])
        state = transition @ state + outer(k[:, t], v[:, t])
        o = read(state, r[:, t])
        o = (o - o.mean(-1, keepdim=True)) / (o.var(-1, keepdim=True, unbiased=False) + 64e-5).sqrt()
        o = o.flatten(1) * mixer.norm.weight + mixer.norm.bias
        rows.append(o + ((r * k * bonus)[:, t].sum(-1, keepdim=True) * v[:, t]).flatten(1))
    gate = mixer.gate_up(torch.sigmoid(mixer.gate_down(x_g)))
    return mixer.out_proj(torch.stack(rows, 1) * gate)  # type: ignore[no-any-return]


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("cls", [DeltaNet, GatedDeltaNet])
def test_the_delta_rule_equals_its_papers_recurrence(cls: Any, negative: bool) -> None:
    assert_equals_loop(perturbed(cls, negative=negative), deltanet)


@pytest.mark.parametrize("layer", [0, 1])
def test_rwkv7_equals_its_papers_recurrence(layer: int) -> None:
    assert_equals_loop(perturbed(RWKV7, layer, rank=3), rwkv7)


def test_gated_deltanet_equals_the_layer_of_qwen3_next() -> None:
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        hidden_size=D, linear_num_value_heads=4, linear_num_key_heads=4, linear_key_head_dim=D // 4,
        linear_value_head_dim=D // 2, linear_conv_kernel_dim=4, rms_norm_eps=1e-5, hidden_act="silu",
        num_hidden_layers=1, layer_types=["linear_attention"],
    )  # fmt: skip
    theirs = Qwen3NextGatedDeltaNet(config, layer_idx=0).eval()
    ours = perturbed(GatedDeltaNet).float()

    def of_heads(*weights: Tensor) -> Tensor:
        """Rows (head, part, channel), where ours are (part, head, channel)."""
        return torch.cat([weight.unflatten(0, (4, -1)) for weight in weights], 1).flatten(0, 1)

    def arranged(of: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            "in_proj_qkvz.weight": of_heads(*of["qkv_proj.weight"].split(ours.split), of["gate_proj.weight"]),
            "in_proj_ba.weight": of_heads(of["rate_proj.weight"], of["dt_proj.weight"]),
            "conv1d.weight": of["conv.conv.weight"],
            "dt_bias": of["time_step.dt_bias"],
            "A_log": of["time_step.A_log"],
            "norm.weight": of["norm.weight"],
            "out_proj.weight": of["out_proj.weight"],
        }

    theirs.load_state_dict(arranged(dict(ours.state_dict())))
    x = torch.randn(2, 37, D, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for mixer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y = mixer(inputs)
        (y * weight).sum().backward()
        results.append((y.detach(), inputs.grad))
    gradients = arranged({name: parameter.grad for name, parameter in ours.named_parameters()})
    pairs = [*zip(*results, strict=True), *((gradients[name], p.grad) for name, p in theirs.named_parameters())]
    errors = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
    assert len(errors) == 2 + len(gradients)
    assert max(errors) <= 1e-5, errors
