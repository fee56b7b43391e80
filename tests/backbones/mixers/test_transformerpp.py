"""The Transformer's options: Llama's layers by transformers, a sliding window, rotary positions far from the start."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from backbench.backbones import UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.transformer import TransformerOptions, turned

os.environ.setdefault("HF_HUB_OFFLINE", "1")
D, LENGTH = 32, 23
SPEC = Spec(d_model=D, n_layers=2, dropout=0.0, max_length=60)


def model(name: str = "transformer", **options: Any) -> Any:
    torch.manual_seed(0)
    made = build(name, options, SPEC).double()
    with torch.no_grad():  # weights away from their start, so that every one of them matters
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("heads", [(4, 2), (4, 4), (2, 1)])
def test_transformerpp_equals_transformers_llama(heads: tuple[int, int]) -> None:
    from transformers import LlamaConfig, LlamaModel

    ours = model("transformerpp", n_heads=heads[0], kv_heads=heads[1])
    width = ours.layers[0].ffn.gate.out_features
    config = LlamaConfig(
        vocab_size=3, hidden_size=D, intermediate_size=width, num_hidden_layers=2, num_attention_heads=heads[0],
        num_key_value_heads=heads[1], rms_norm_eps=1e-5, attn_implementation="eager",
    )  # fmt: skip
    theirs = LlamaModel(config).double()
    pairs = [("norm.weight", "norm.weight")]
    for i in range(2):
        names = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm", "mixer.out_proj": "self_attn.o_proj",
                 "ffn.gate": "mlp.gate_proj", "ffn.up": "mlp.up_proj", "ffn.down": "mlp.down_proj"}  # fmt: skip
        pairs += [(f"layers.{i}.{a}.weight", f"layers.{i}.{b}.weight") for a, b in names.items()]
    mine, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    with torch.no_grad():
        for a, b in pairs:
            other[b].copy_(mine[a])
        for i in range(2):
            parts = mine[f"layers.{i}.mixer.qkv_proj.weight"].split(ours.layers[i].mixer.sizes)
            for kind, part in zip("qkv", parts, strict=True):
                other[f"layers.{i}.self_attn.{kind}_proj.weight"].copy_(part)
    x = torch.randn(2, LENGTH, D, dtype=torch.float64)
    grads = []
    for run in (lambda z: ours(z), lambda z: theirs(inputs_embeds=z).last_hidden_state):
        inside = x.clone().requires_grad_()
        y = run(inside)
        (y * torch.arange(y.numel()).view(y.shape).cos()).sum().backward()
        grads.append((y.detach(), inside.grad))
    for ours_, theirs_ in zip(*grads, strict=True):
        assert float((ours_ - theirs_).abs().max() / theirs_.abs().max()) < 1e-6  # its norms and angles are float32
    for a, b in pairs:
        assert mine[a].grad is not None
        assert float((mine[a].grad - other[b].grad).abs().max() / other[b].grad.abs().max()) < 1e-5, a


def test_a_window_is_the_last_steps() -> None:
    ours = model(window=2)  # of three tokens each
    x = torch.randn(1, LENGTH, D, dtype=torch.float64)
    y = ours.layers[0].mixer(x)
    for t in (0, 4, 7, LENGTH - 1):
        alone = ours.layers[0].mixer(x[:, max(0, t - 5) : t + 1])
        assert torch.allclose(y[:, t], alone[:, -1], atol=1e-12)
    longer = model(window=40)
    assert torch.allclose(longer(x), model()(x), atol=1e-12), "a window as long as the context changes nothing"
    assert ours.flops(60) < longer.flops(60) == model().flops(60)


@pytest.mark.parametrize("options", [{"window": 2}, {"window": 7}, {"positions": "rotary", "n_heads": 2}])
def test_a_carried_state_equals_the_window_far_from_the_start(options: dict[str, Any]) -> None:
    ours = model(**options)
    x = torch.randn(1, 300, D, dtype=torch.float64)
    mixer, state, found = ours.layers[0].mixer, None, []
    state = mixer.initial_state(1)
    for t in range(300):
        y, state = mixer.step(x[:, t], state)
        found.append(y)
    for t in (59, 61, 200, 299):
        begin = int(SPEC.first_kept(torch.tensor(t)))
        assert torch.allclose(found[t], mixer(x[:, begin : t + 1])[:, -1], atol=1e-10), t


def test_only_distances_count_for_rotary_positions() -> None:
    q, k = (torch.randn(1, 1, 5, 8, dtype=torch.float64) for _ in range(2))
    near, far = torch.arange(5), torch.arange(5) + 1_000_000
    scores = [turned(q, at) @ turned(k, at).transpose(2, 3) for at in (near, far)]
    assert torch.allclose(scores[0], scores[1], atol=1e-8)
    assert torch.allclose(turned(q, near).norm(dim=-1), q.norm(dim=-1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kv_heads": 3, "n_heads": 4}, "kv_heads=3; give 0 or a divisor of n_heads=4"),
        ({"kv_heads": 2}, "kv_heads=2; give 0 or a divisor of n_heads=1"),
        ({"positions": "sinus"}, "positions=sinus; give one of none, rotary"),
        ({"norm": "batch"}, "norm=batch; give one of layer, rms"),
        ({"window": -1}, "window=-1; give 0, for no limit, or more"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
        ({"positions": "rotary", "n_heads": 32}, "a head has 1 numbers; change n_heads or d_model"),
    ],
)
def test_what_makes_no_sense_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build("transformer", options, SPEC)


def test_defaults_are_the_decision_transformers() -> None:
    plain = TransformerOptions()
    assert (plain.n_heads, plain.positions, plain.norm, plain.bias, plain.window) == (1, "none", "layer", True, 0)
