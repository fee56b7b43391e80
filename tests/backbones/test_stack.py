"""Sizes and starting weights are those of the literature."""

from __future__ import annotations

import math
from typing import Any

import mixers
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Mixer, Spec
from backbench.backbones.mixers.mamba import MambaBlock
from backbench.backbones.stack import ResidualStack


def stack(name: str, options: dict[str, Any] | None = None, d_model: int = 128, n_layers: int = 3) -> ResidualStack:
    torch.manual_seed(0)
    model = build(name, options, Spec(d_model=d_model, n_layers=n_layers))
    assert isinstance(model, ResidualStack)
    return model


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("d_model", "expected"), [(128, 116_480), (256, 437_760)])
def test_mamba_block_has_the_published_number_of_parameters(d_model: int, expected: int) -> None:
    assert size(MambaBlock(d_model, 16, 4, 2, 0, "auto")) == expected


@pytest.mark.parametrize(("name", "expected"), [("mamba", 248_704), ("transformer", 198_272)])
def test_layers_have_the_published_number_of_parameters(name: str, expected: int) -> None:
    model = stack(name)
    assert [size(layer) for layer in model.layers] == [expected] * 3
    assert size(model) == 3 * expected + 2 * 128


def test_variants_add_the_expected_parameters() -> None:
    block, layer = 116_480, 248_704
    assert size(stack("mamba", {"mlp": False}).layers[0]) == block + 2 * 128
    assert size(stack("gloma").layers[0]) == layer + block
    assert size(stack("gloma", {"share_weights": True}).layers[0]) == layer
    assert size(stack("gloma", {"fusion": "concat"}).layers[0]) == layer + block + 2 * 128 * 128 + 128
    assert size(stack("gloma", {"fusion": "gated"}).layers[0]) == layer + block + 128 * 128 + 128


@pytest.mark.parametrize("name", ["transformer", "mamba", "gloma", "mlp", "identity"])
def test_gpt2_weights_and_scaled_residual_outputs(name: str) -> None:
    model = stack(name)
    special = ("dt_proj",)
    outputs = ("out_proj", "ffn.down")
    for path, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or path.endswith(special):
            continue
        std = 0.02 / math.sqrt(6) if path.endswith(outputs) else 0.02  # 3 layers of 2 residual branches
        assert layer.weight.std().item() == pytest.approx(std, rel=0.03), path
        assert abs(layer.weight.mean().item()) < 0.05 * std, path
        assert layer.bias is None or not layer.bias.any(), path
    norms = [layer for layer in model.modules() if isinstance(layer, nn.LayerNorm)]
    assert all(norm.eps == 1e-5 and bool((norm.weight == 1).all()) and not norm.bias.any() for norm in norms)


@pytest.mark.parametrize("name", ["transformer", "mamba", "gloma"])
def test_residual_outputs_may_start_without_a_scale(name: str) -> None:
    model = build(name, None, Spec(128, n_layers=3, residual_scale=False))
    outputs = [layer for path, layer in model.named_modules() if path.endswith(("out_proj", "ffn.down"))]
    assert len(outputs) >= 6
    assert all(layer.get_parameter("weight").std().item() == pytest.approx(0.02, rel=0.03) for layer in outputs)


BUILT_IN = [name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"]
# Of each model with seed 0: all parameters, weighted so that any change of values or order shows.
STARTS = {
    "transformer": 463.862435, "mamba": 10899.748970, "gloma": 21256.430311, "mlp": 472.924089, "identity": 475.974735,
    "convformer": 450.467044, "deltanet": 520.965179, "gated_deltanet": 519.721853, "gla": 510.366538,
    "gru": 503.060444, "hgrn2": 655.686360, "linear_attention": 463.862435, "lru": 300.829356, "lstm": 685.235680,
    "mamba2": 872.808101, "mingru": 485.490611, "mlstm": 1299.830850, "retnet": 566.532253, "rglru": -621.936161,
    "rwkv7": 571.064131, "s5": -7067.594107, "slstm": 330.261271, "transformerpp": 473.723110,
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_backbones_start_as_they_always_did(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, None, Spec(64, n_layers=2, max_length=30))
    weighted = sum(
        float((p.detach().double() * torch.linspace(1, 2, p.numel(), dtype=torch.double).view(p.shape)).sum())
        for p in model.parameters()
    )
    assert weighted == pytest.approx(STARTS[name], rel=1e-7)


def test_a_block_of_another_package_keeps_its_own_start() -> None:
    """mambapy draws time steps from 0.001 to 0.1. At GPT-2's start all would be 0.69, a memory of half a token."""
    stack_ = build(mixers.MambapyBlock, None, Spec(64, n_layers=2))
    for layer in stack_.get_submodule("layers").children():
        dt = F.softplus(layer.get_parameter("mixer.block.dt_proj.bias"))
        assert 1e-3 * 0.99 <= dt.min() <= dt.max() <= 0.1 * 1.01


def test_the_stack_sets_what_a_mixer_hands_over_and_nothing_else() -> None:
    class Handing(Mixer):
        def __init__(self, options: Any, spec: Spec) -> None:
            super().__init__(options, spec)
            self.handed, self.own, self.out = (nn.Linear(64, 64) for _ in range(3))
            self.handed.bias._no_reinit = True  # type: ignore[assignment]
            nn.init.constant_(self.own.weight, 7.0)

        def projections(self) -> tuple[nn.Module, ...]:
            return (self.handed,)

        def residual_outputs(self) -> tuple[nn.Linear, ...]:
            return (self.out,)

    mixer: Any = build(Handing, None, Spec(64, n_layers=2)).get_submodule("layers.0.mixer")
    assert mixer.handed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert mixer.handed.bias.any()
    assert bool((mixer.own.weight == 7).all())
    assert mixer.own.bias.any()
    assert mixer.out.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not mixer.out.bias.any()


def test_without_feed_forward_a_layer_is_one_residual_branch() -> None:
    weight = stack("mamba", {"mlp": False}).get_submodule("layers.0.mixer.block.out_proj").weight
    assert isinstance(weight, torch.Tensor)
    assert weight.std().item() == pytest.approx(0.02 / math.sqrt(3), rel=0.03)


def test_with_concat_the_fusion_writes_to_the_residual_stream() -> None:
    model = stack("gloma", {"fusion": "concat"})
    for path, std in (
        ("fusion", 0.02 / math.sqrt(6)),
        ("global_branch.out_proj", 0.02),
        ("local_branch.out_proj", 0.02),
    ):
        weight = model.get_submodule(f"layers.1.mixer.{path}").weight
        assert isinstance(weight, torch.Tensor)
        assert weight.std().item() == pytest.approx(std, rel=0.03), path


@pytest.mark.parametrize("name", ["mamba", "gloma"])
def test_mamba_keeps_its_own_initialisation(name: str) -> None:
    blocks = [module for module in stack(name).modules() if isinstance(module, MambaBlock)]
    assert len(blocks) == (3 if name == "mamba" else 6)
    for block in blocks:
        dt = F.softplus(block.dt_proj.bias)
        assert 1e-3 * 0.999 <= dt.min() <= dt.max() <= 0.1 * 1.001
        # log-uniform: half of it below the geometric mean
        assert (dt < 1e-2).float().mean().item() == pytest.approx(0.5, abs=0.12)
        bound = block.dt_proj.in_features**-0.5
        assert 0.95 * bound < block.dt_proj.weight.abs().max() <= bound
        assert block.dt_proj.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert torch.equal(block.A_log, torch.arange(1.0, 17).log().expand(256, -1))
        assert bool((block.D == 1).all())
        assert block.conv1d.weight.abs().max() <= 0.5  # PyTorch's own start: 1 / sqrt(taps)
        assert block.conv1d.weight.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("name", ["mamba", "gloma"])
def test_only_A_and_D_are_marked_to_get_no_weight_decay(name: str) -> None:
    marked = {path for path, p in stack(name).named_parameters() if getattr(p, "_no_weight_decay", False)}
    assert marked == {path for path, _ in stack(name).named_parameters() if path.endswith((".A_log", ".D"))}
    assert marked


def test_flops_are_counted_per_token() -> None:
    d = 128
    ffn = 2 * 8 * d * d
    assert stack("identity").flops(60) == 3 * ffn
    assert stack("mlp").flops(60) == 3 * (ffn + 2 * 3 * d * d)
    assert stack("transformer").flops(59) == 3 * (ffn + 2 * 4 * d * d + 4 * d * 30)
    linear = 2 * (d * 512 + 256 * 40 + 8 * 256 + 256 * d)
    mamba = linear + 2 * 4 * 256 + 9 * 256 * 16
    assert stack("mamba").flops(60) == 3 * (ffn + mamba)
    assert stack("mamba", {"mlp": False}).flops(1) == 3 * mamba
    assert stack("gloma").flops(60) == 3 * (ffn + 2 * mamba + 4 * 256 * 16)
