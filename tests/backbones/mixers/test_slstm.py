"""sLSTM equals its paper's equations without a stabiliser, stays finite where they overflow, starts as published."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mixer_references import D, assert_equals_loop, convolved, perturbed
from torch import Tensor

from backbench.backbones import UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.slstm import SLSTM, SLSTMOptions


def slstm(mixer: Any, x: Tensor) -> Tensor:
    """Equations 8 to 14, each head alone: no stabiliser, so gates must be small."""
    heads = mixer.options.n_heads
    seen = [part.unflatten(-1, (heads, -1)) for part in (convolved(mixer.conv, x), x)]
    bias, columns = mixer.bias.view(4, heads, -1), []
    for head in range(heads):
        c = n = h = x.new_zeros(len(x), D // heads)
        rows = []
        for t in range(x.shape[1]):
            a, b, z, o = (
                seen[gate // 2][:, t, head] @ mixer.inputs[gate, head]
                + h @ mixer.recurrent[gate, head]
                + bias[gate, head]
                for gate in range(4)
            )
            f, i = b.sigmoid(), a.exp()
            c, n = f * c + i * z.tanh(), f * n + i
            h = o.sigmoid() * c / n
            rows.append(h)
        h = torch.stack(rows, 1)
        columns.append((h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt())
    return torch.cat(columns, -1) * mixer.norm  # type: ignore[no-any-return]


@pytest.mark.parametrize("options", [{}, {"n_heads": 1, "d_conv": 1}, {"n_heads": 8, "d_conv": 3}], ids=str)
def test_it_equals_its_recurrence_without_a_stabiliser(options: dict[str, int]) -> None:
    assert_equals_loop(perturbed(SLSTM, **options), slstm, 1e-12)


@pytest.mark.parametrize("gate", [200.0, -200.0])
def test_it_stays_finite_where_its_gates_would_overflow(gate: float) -> None:
    mixer = perturbed(SLSTM).float()
    with torch.no_grad():
        mixer.bias[:D], mixer.bias[D : 2 * D] = gate, -gate
    y = mixer(torch.randn(2, 60, D).requires_grad_())
    y.square().sum().backward()
    assert bool(y.isfinite().all())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in mixer.parameters())


def test_forget_gates_start_by_a_power_law_that_depends_on_the_layer() -> None:
    model: Any = build("slstm", None, Spec(128, n_layers=3))
    for layer, power in enumerate((0.3, 0.95, 1.6)):
        mixer = model.layers[layer].mixer
        expected = 5 - 12 * (torch.arange(32) / 31) ** power
        bias = mixer.bias.detach().view(4, 4, 32)
        torch.testing.assert_close(bias[1], expected.expand(4, -1))
        assert not bool(bias[[0, 2, 3]].any() or mixer.recurrent.any())
        assert float(mixer.inputs.detach().std()) == pytest.approx((2 / 5 / 128) ** 0.5, rel=0.03)
    assert sum(p.numel() for p in mixer.parameters()) == 2 * 4 * 4 * 32 * 32 + 4 * 128 + 128 + 5 * 128 == 34_048
    assert mixer.flops(60) == 2 * (2 * 4 * 4 * 32 * 32 + 4 * 128)


def test_half_precision_stays_close_to_single_precision() -> None:
    torch.manual_seed(0)
    model, x = build("slstm", None, Spec(16, n_layers=2, max_length=30)).eval(), torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    half.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    torch.testing.assert_close(half.float(), model(x), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"n_heads": 0}, "slstm: n_heads=0; give at least 1"),
        ({"d_conv": 0}, "slstm: d_conv=0; give at least 1"),
        ({"n_heads": 3}, "slstm: n_heads=3 does not divide the 16 channels of d_model=16"),
        ({"n_heads": 16}, "slstm: n_heads=16 gives heads of one channel, which their norm makes zero; give fewer"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, int], line: str) -> None:
    with pytest.raises(UserError, match=line):
        SLSTM(SLSTMOptions(**options), Spec(D))
