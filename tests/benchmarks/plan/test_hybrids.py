"""Cells of hybrids."""

from __future__ import annotations

import pytest
from planning import cells as planned

from backbench.benchmarks.plan.compose import check_models
from backbench.errors import UserError

ASKED = ("memory", "quick", [0], ["parity"])


@pytest.mark.parametrize(("name", "overrides", "layers", "variant"), [
    ("mamba+gru+transformer", [], 3, "model.n_layers=3"),
    ("mamba+gru", [], 2, ""),
    ("mamba+gru+transformer", ["model.n_layers=5"], 5, "model.n_layers=5"),
])  # fmt: skip
def test_a_hybrid_gets_a_layer_for_each_part_and_its_row_says_so(
    name: str, overrides: list[str], layers: int, variant: str
) -> None:
    (cell,) = planned([name], *ASKED, overrides=overrides)
    assert (cell.model.n_layers, cell.variant) == (layers, variant)


def test_fewer_layers_than_parts_are_refused_when_asked_for() -> None:
    with pytest.raises(UserError, match=r"n_layers=1 has no room for its 2 parts; give model\.n_layers=2 or more"):
        check_models(planned(["mamba+gru"], *ASKED, overrides=["model.n_layers=1"]))


def test_options_of_a_part_are_overrides_under_its_name() -> None:
    (cell,) = planned(["mamba+gru"], *ASKED, overrides=["backbone.mamba.d_state=4"])
    assert cell.options["mamba"]["d_state"] == 4
    assert cell.variant == "backbone.mamba.d_state=4"
    with pytest.raises(UserError, match=r"unknown override key .backbone\.d_state."):
        planned(["mamba+gru"], *ASKED, overrides=["backbone.d_state=4"])
