"""Sizes and starting weights are those of the literature."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbench.backbones.build import build
from backbench.backbones.contract import Spec
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
