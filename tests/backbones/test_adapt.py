"""Any causal PyTorch module is a backbone after one call, and others are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbench.backbones import UserError, summary_of
from backbench.backbones.adapt import adapt
from backbench.backbones.build import build
from backbench.backbones.check import check
from backbench.backbones.contract import Mixer, Spec

SPEC = Spec(d_model=16, n_layers=2, max_length=12)


def gru(**more: Any) -> type[Mixer]:
    return adapt("torch.nn:GRU", input_size="{d_model}", hidden_size="{d_model}", batch_first=True, **more)


def test_a_module_that_returns_a_tuple_keeps_the_contract() -> None:
    results = check(gru(num_layers=1), None, SPEC)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []
    assert summary_of(gru()) == "torch.nn:GRU, adapted"


def test_numbers_are_options_and_reach_the_module() -> None:
    assert build(gru(num_layers=1), {"num_layers": 2}, SPEC).layers[0].mixer.block.num_layers == 2  # type: ignore[index, union-attr]
    with pytest.raises(UserError, match="option 'num_layers' of GRU is 'two'; give a value of type int"):
        build(gru(num_layers=1), {"num_layers": "two"}, SPEC)
    with pytest.raises(UserError, match="unknown option 'layers' of GRU; did you mean 'num_layers'"):
        build(gru(num_layers=1), {"layers": 2}, SPEC)


def test_the_module_keeps_its_own_start_and_its_cost_is_that_of_its_weights() -> None:
    torch.manual_seed(0)
    mixer = gru()(gru().Options(), SPEC)
    torch.manual_seed(0)
    plain = nn.GRU(16, 16, batch_first=True)
    mixer.initialise(0.5)
    assert all(torch.equal(a, b) for a, b in zip(mixer.parameters(), plain.parameters(), strict=True))
    assert mixer.flops(12) == 2 * 3 * (16 * 16 + 16 * 16)


def test_a_module_that_sees_the_future_is_refused_by_the_check() -> None:
    layer = adapt("torch.nn.TransformerEncoderLayer", d_model="{d_model}", nhead=2, dim_feedforward=8, batch_first=True)
    (causality,) = (result for result in check(layer, None, SPEC) if result.name == "causality")
    assert not causality.passed
    assert "the future leaks at [1, 2" in causality.detail


class Foreign(nn.Module):
    """Has a method with a name of the contract, and a bare matrix."""

    def __init__(self, width: int, result: str) -> None:
        super().__init__()
        self.weight, self.result = nn.Parameter(torch.eye(width)), result

    def flops(self) -> str:
        return "many"

    def forward(self, x: Tensor) -> Any:
        return {"same": x @ self.weight, "half": x[:, ::2], "dict": {"x": x}}[self.result]


def test_a_function_may_make_the_module_and_bare_matrices_count() -> None:
    def foreign(width: int) -> nn.Module:
        """A matrix."""
        return Foreign(width, "same")

    mixer = adapt(foreign, width="{d_model}")
    assert summary_of(mixer) == "A matrix."
    made = build(mixer, None, SPEC)
    assert made.flops(12) == 2 * (2 * 16 * 16 + 2 * 8 * 16 * 16)


@pytest.mark.parametrize(("result", "got"), [("half", r"\(2, 3, 16\)"), ("dict", "a dict")])
def test_a_result_of_another_size_is_one_line(result: str, got: str) -> None:
    model = build(adapt(Foreign, width="{d_model}", result=result), None, SPEC)
    with pytest.raises(UserError, match=rf"Foreign returned {got} for \(2, 6, 16\); return the same size, or a tuple"):
        model(torch.zeros(2, 6, 16))


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (
            "torch.nn:GRU",
            {"hidden_size": "{width}"},
            "hidden_size='{width}' is no field of the spec; give one of {d_mo",
        ),
        ("nowhere.at:All", {}, "module 'nowhere.at:All' cannot be imported: No module named 'nowhere'"),
        ("torch.nn:GRUU", {}, "has no 'GRUU'; did you mean 'GRU'"),
        ("torch.nn.Linear", {"width": 3}, r"torch.nn.Linear\(width=3\) raised TypeError: .*; change the arguments of"),
        ("fractions:Fraction", {"numerator": 3}, "is a Fraction, not a torch.nn.Module; adapt takes modules"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(module: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(adapt(module, **arguments), None, SPEC)
