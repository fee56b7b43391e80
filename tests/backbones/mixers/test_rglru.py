"""RG-LRU equals transformers' RecurrentGemma, and remembers what its gate chooses to write."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients

from backbench.backbones import UserError, make_options
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.rglru import RGLRU, SHARPNESS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
D = 32


def made(d: int = D, **options: Any) -> RGLRU:
    torch.manual_seed(0)
    return RGLRU(make_options(RGLRU, options), Spec(d_model=d))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"width": 48, "n_blocks": 3, "d_conv": 2}], ids=str)
def test_rglru_equals_recurrent_gemma(options: dict[str, int], dtype: torch.dtype, tolerance: float) -> None:
    """Positions begin at 1: at position 0 that code writes the first token unscaled, which the paper does not."""
    from transformers import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

    ours = made(**options).to(dtype)
    config = RecurrentGemmaConfig(
        hidden_size=D,
        lru_width=options.get("width", D),
        num_attention_heads=options.get("n_blocks", 1),
        conv1d_width=options.get("d_conv", 4),
        hidden_activation="gelu_pytorch_tanh",
        num_hidden_layers=1,
    )
    theirs: Any = RecurrentGemmaRecurrentBlock(config, 0).to(dtype)
    theirs.rg_lru._rnn_scan = functools.partial(theirs.rg_lru._rnn_scan, acc_dtype=dtype)  # single precision otherwise
    left = (ours.x_proj, ours.gate_proj, ours.conv1d, ours.out_proj)
    right = (theirs.linear_x, theirs.linear_y, theirs.conv_1d, theirs.linear_out)
    pairs, parts = list(zip(left, right, strict=True)), ("weight", "bias")
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        unit, size = theirs.rg_lru, ours.gates.shape[1]
        for layer, peer in pairs:
            peer.load_state_dict(layer.state_dict())
        unit.recurrent_param.copy_(ours.decay)
        for start, name in ((0, "input"), (size, "recurrent")):
            getattr(unit, f"{name}_gate_weight").copy_(ours.gates[..., start : start + size])
            getattr(unit, f"{name}_gate_bias").copy_(ours.gates_bias[..., start : start + size])
    x = torch.randn(3, 17, D, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    positions = torch.arange(1, 18).expand(3, -1)
    mine = [getattr(layer, part) for layer in left for part in parts]
    peers = [getattr(layer, part) for layer in right for part in parts]
    gates = [getattr(unit, f"{name}_gate_{part}") for part in parts for name in ("input", "recurrent")]
    got = values_and_gradients(lambda x, *_: ours(x), [x, *mine, ours.decay, ours.gates, ours.gates_bias])
    want = values_and_gradients(
        lambda x, *_: theirs(x, positions, None, use_cache=False)[0], [x, *peers, unit.recurrent_param, *gates]
    )
    want = [*want[:-4], torch.cat(want[-4:-2], -1), torch.cat(want[-2:], -1)]
    assert len(got) == 2 + len(list(ours.parameters()))
    assert_equal(got, want, tolerance)


def test_it_starts_as_the_paper_says() -> None:
    """Decays a^c between 0.9 and 0.999, gates half open, and as many parameters as counted by hand."""
    mixer = made(1024).requires_grad_(False)
    decay = torch.exp(-SHARPNESS * torch.nn.functional.softplus(mixer.decay))
    assert 0.9 <= float(decay.min()) < 0.91
    assert 0.99 < float(decay.max()) <= 0.999
    assert mixer.gates_bias.eq(0).all()
    assert float(mixer.gates.std()) == pytest.approx(1024**-0.5, rel=0.02)
    count = 3 * (D * D + D) + (4 * D + D) + 2 * (D * D + D) + D
    assert sum(p.numel() for p in made().parameters()) == count == 5472


@torch.no_grad()
def test_a_marked_value_is_there_after_ten_thousand_tokens() -> None:
    """Feature 1 marks the token whose feature 0 is kept: it opens the recurrence gate, and nothing else does."""
    mixer = made(2)
    for parameter in mixer.parameters():
        parameter.zero_()
    mixer.x_proj.weight.copy_(torch.eye(2))
    mixer.conv1d.weight[:, 0, -1] = 1
    mixer.gates[0, 1, 2] = 60  # the marker opens the recurrence gate of channel 0
    mixer.gates_bias[0] = torch.tensor([30.0, 30, -30, -30])  # input gates are open, recurrence gates closed
    mixer.decay.fill_(5)
    mixer.gate_proj.bias.fill_(10)
    mixer.out_proj.weight[0, 0] = 0.1
    x = torch.randn(1, 10_001, 2, generator=torch.Generator().manual_seed(0))
    x[..., 1] = 0
    x[0, 0] = torch.tensor([0.7, 1.0])
    assert float(mixer(x)[0, -1, 0]) == pytest.approx(0.7, abs=1e-3)
    x[0, 5000, 1] = 1
    assert float(mixer(x)[0, -1, 0]) == pytest.approx(float(x[0, 5000, 0]), abs=1e-3)


def test_extreme_inputs_have_finite_gradients() -> None:
    """A recurrence gate that is exactly zero gives a decay of exactly one, where the root's slope is infinite."""
    mixer = made()
    x = (1e4 * torch.randn(1, 5, D)).requires_grad_()
    mixer(x).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in mixer.parameters())


def test_wrong_options_are_one_line() -> None:
    with pytest.raises(UserError, match="rglru: width=32 is not a multiple of n_blocks=5; change one of them"):
        made(n_blocks=5)
    with pytest.raises(UserError, match="rglru: d_conv=0; give at least 1"):
        made(d_conv=0)
    with pytest.raises(UserError, match="diagonal_recurrence has no implementation 'cp'; did you mean 'cpp'"):
        made(kernels="cp")
