"""Defaults of the contract: a step for backbones without one, states, the spec."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbench.backbones import UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Mixer, Spec, map_state, select_rows

SPEC = Spec(d_model=16, n_layers=2, max_length=14)


class CumulativeMean(Mixer):
    """One method, with the default step."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(-1, 1)


def test_default_step_drops_complete_steps_and_counts_tokens_per_row() -> None:
    torch.manual_seed(0)
    spec = Spec(d_model=4, n_layers=1, dropout=0.0, tokens=("state", "action"), max_length=5)
    model = build(CumulativeMean, None, spec).eval()
    x = torch.randn(2, 12, 4)
    state = model.initial_state(2)
    begins = [0, 0, 0, 0, 0, 2, 2, 4, 4, 6, 6, 8]  # each begins with a state
    assert spec.first_kept(torch.arange(12)).tolist() == begins
    for t, begin in enumerate(begins):
        y, state = model.step(x[:, t], state)
        second = 0 if t < 4 else 4 + begins[t - 4]
        expected = [model(x[:1, begin : t + 1])[0, -1], model(x[1:, second : t + 1])[0, -1]]
        torch.testing.assert_close(y, torch.stack(expected), atol=1e-5, rtol=1e-5)
        if t == 3:
            state = model.reset(state, torch.tensor([False, True]))


def test_tokens_of_one_kind_leave_the_window_one_by_one() -> None:
    torch.manual_seed(0)
    spec = Spec(d_model=4, n_layers=1, dropout=0.0, tokens=("state",), max_length=3)
    model = build(CumulativeMean, None, spec).eval()
    x = torch.randn(2, 8, 4)
    state = model.initial_state(2)
    for t in range(8):
        y, state = model.step(x[:, t], state)
        begin = max(0, t - 2)
        expected = [model(x[:1, begin : t + 1])[0, -1], model(x[1:, max(begin, 4 if t > 3 else 0) : t + 1])[0, -1]]
        torch.testing.assert_close(y, torch.stack(expected), atol=1e-5, rtol=1e-5)
        if t == 3:
            state = model.reset(state, torch.tensor([False, True]))


def test_state_functions_accept_any_nesting() -> None:
    state = {"a": (torch.zeros(3, 2), [torch.arange(3)]), "b": None}
    doubled = map_state(torch.add, state, state)
    assert doubled["a"][1][0].tolist() == [0, 2, 4]
    assert doubled["b"] is None
    assert select_rows(state, torch.tensor([2, 0]))["a"][1][0].tolist() == [2, 0]
    with pytest.raises(TypeError, match="int"):
        map_state(torch.add, 3)


@pytest.mark.parametrize("values", [
    {"d_model": 0}, {"d_model": 4, "dropout": 1.0}, {"d_model": 4, "n_layers": True}, {"d_model": 4, "tokens": ()},
    {"d_model": 4, "max_length": 2}, {"d_model": 4, "layer": -1},
])  # fmt: skip
def test_wrong_spec_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="spec: "):
        Spec(**values)


def test_mixers_know_their_layer_and_the_kinds_of_tokens() -> None:
    model: Any = build(CumulativeMean, None, SPEC)
    assert [layer.mixer.spec.layer for layer in model.layers] == [0, 1]
    assert model.spec.tokens == ("return", "state", "action")


@pytest.mark.parametrize("name", ["project", "step", "projections", "train"])
def test_a_layer_under_the_name_of_a_method_is_refused(name: str) -> None:
    """The method would be called instead."""
    made = CumulativeMean(None, SPEC)
    with pytest.raises(UserError, match=f"CumulativeMean.{name} is a method"):
        setattr(made, name, nn.Linear(2, 2))


def test_build_refuses_other_classes() -> None:
    with pytest.raises(UserError, match="neither a Mixer nor a Backbone"):
        build(nn.Linear, None, SPEC)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["transformer", "transformerpp", "mamba", "gloma", "rglru", "lru", "mingru", "s5", "gru"]
)
def test_half_precision_trains_and_stays_close_to_single_precision(name: str) -> None:
    torch.manual_seed(0)
    model, x = build(name, None, SPEC), torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
        stepped = model.extend(x, model.initial_state(2))[0]
    for y in (half, stepped):
        torch.testing.assert_close(y.float(), model(x), atol=0.1, rtol=0.1)
