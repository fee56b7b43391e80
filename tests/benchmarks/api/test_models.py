"""Backbones from Python, and the names that users give to their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import backbench
from backbench import UserError
from backbench.backbones import BACKBONES
from backbench.backbones.adapt import adapt
from backbench.backbones.contract import Mixer


class Twice(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_steps_of_a_made_backbone_equal_its_forward() -> None:
    model = backbench.make_backbone("mamba", d_model=16, n_layers=1, d_state=4).eval()
    x, state, outputs = torch.randn(3, 7, 16), model.initial_state(3), []
    for x_t in x.unbind(1):
        y_t, state = model.step(x_t, state)
        outputs.append(y_t)
    y = model(x)
    assert y.shape == x.shape
    assert torch.allclose(torch.stack(outputs, 1), y, atol=1e-5)


def test_equal_seeds_make_equal_weights() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(backbench.make_backbone("gloma+mlp", d_model=16, n_layers=2)(torch.ones(1, 4, 16)))
    assert torch.equal(*made)


def test_options_and_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"did you mean 'd_state'\?"):
        backbench.make_backbone("mamba", d_stat=4)
    with pytest.raises(UserError, match="d_model=0"):
        backbench.make_backbone("mamba", d_model=0)


def test_a_registered_name_is_that_of_the_class_until_it_is_given_again() -> None:
    assert backbench.register("twice", Twice) is Twice
    assert BACKBONES.get("twice") is Twice
    assert "twice" in BACKBONES.names()
    assert BACKBONES.origin("twice") == BACKBONES.origin("twice+mlp") == "registered here"
    assert not BACKBONES.only_here("twice")
    other = adapt("torch.nn.Linear", in_features="{d_model}", out_features="{d_model}")
    backbench.register("twice", other)
    assert BACKBONES.get("twice") is other
    assert BACKBONES.only_here("twice")
    assert backbench.make_backbone("twice", d_model=8, n_layers=1)(torch.ones(1, 2, 8)).shape == (1, 2, 8)


@pytest.mark.parametrize(
    ("name", "thing", "said"),
    [
        ("mamba", Twice, "backbone 'mamba' is built-in; choose another name"),
        ("a+b", Twice, "a name has letters, digits, - and _"),
        ("", Twice, "a name has letters"),
        ("mine", int, "is not a class derived from"),
        ("mine", Twice.forward, "is no class; give a class, or adapt"),
    ],
)
def test_a_name_or_thing_that_cannot_be_registered(name: str, thing: type[Mixer], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("+", r"\+")):
        backbench.register(name, thing)
    assert name == "mamba" or name not in BACKBONES.names()
