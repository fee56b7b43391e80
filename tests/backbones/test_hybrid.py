"""Hybrids take their layers from several mixers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from backbench.backbones import BACKBONES, UserError
from backbench.backbones.build import build
from backbench.backbones.check import check
from backbench.backbones.contract import Spec

SPEC = Spec(d_model=16, n_layers=5, dropout=0.0, max_length=12)


def test_the_pattern_is_repeated_and_equal_parts_share_their_options() -> None:
    model: Any = build("mamba+gru+mamba", {"mamba": {"d_state": 4}}, SPEC)
    assert [type(layer.mixer).__name__ for layer in model.layers] == ["Mamba", "GRU", "Mamba", "Mamba", "GRU"]
    assert {layer.mixer.options.d_state for layer in model.layers if hasattr(layer.mixer.options, "d_state")} == {4}
    assert [layer.mixer.spec.layer for layer in model.layers] == list(range(5))


def test_a_hybrid_of_one_mixer_twice_is_that_backbone() -> None:
    torch.manual_seed(0)
    hybrid = build("mamba+mamba", None, SPEC).eval()
    torch.manual_seed(0)
    plain, x = build("mamba", None, SPEC).eval(), torch.randn(2, 9, 16)
    assert torch.equal(hybrid(x), plain(x))
    assert hybrid.flops(9) == plain.flops(9)


def test_each_layer_computes_what_its_part_does() -> None:
    torch.manual_seed(0)
    model: Any = build("mamba+transformerpp", None, replace(SPEC, n_layers=2)).eval()
    parts = [
        build(name, None, Spec(d_model=16, n_layers=1, dropout=0.0, max_length=12))
        for name in ("mamba", "transformerpp")
    ]
    x = y = torch.randn(2, 9, 16)
    for layer, part in zip(model.layers, parts, strict=True):
        alone: Any = part.layers[0]  # type: ignore[index]
        alone.load_state_dict(layer.state_dict())
        y = alone.eval()(y)
    torch.testing.assert_close(model(x), model.norm(y))
    assert type(model.norm) is torch.nn.RMSNorm  # the last part's kind


@pytest.mark.parametrize("name", ["mamba+mamba+transformer", "gru+gated_deltanet", "transformer+gloma"])
def test_hybrids_keep_the_contract(name: str) -> None:
    assert [result for result in check(name) if not result.passed] == []


@pytest.mark.parametrize(("name", "options", "says"), [
    ("mamba+", {}, "hybrid 'mamba.': a part has no name"),
    ("mamba+mambo", {}, "unknown backbone 'mambo'; did you mean 'mamba'"),
    ("gru+mamba", {"mambo": {}}, "unknown option 'mambo' of Hybrid"),
    ("gru+mamba", {"mamba": {"d_stat": 3}}, "unknown option 'd_stat' of Mamba; did you mean 'd_state'"),
    ("gru+mamba", {"mamba": 3}, "options of Mamba: expected a mapping"),
    ("gru+transformer", {"transformer": {"n_heads": 3}}, "d_model=16 is not a multiple of n_heads=3"),
    ("gru+mamba+gru+mamba+gru+mamba", {}, "model.n_layers=5 has no room for its 6 parts; give model.n_layers=6"),
    ("gru+backbench.backbones.stack:ResidualStack", {}, "is a complete backbone"),
    ("gru+backbench.backbones.mixers.transformer:gru", {}, "has no 'gru'"),
])  # fmt: skip
def test_wrong_hybrids_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(name, options, SPEC)


def test_a_hybrid_comes_from_where_its_least_trusted_part_does() -> None:
    assert BACKBONES.origin("mamba+transformer") == "built-in"
    assert BACKBONES.origin("mamba+mine:Mixer") == "command line"
