"""``match=params`` gives each backbone a width at which its agent is as large as the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planning import cells as planned

from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan import match
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError

SIZES = {"hopper": (11, 3), "walker2d": (17, 6), "halfcheetah": (17, 6)}  # of states and actions, by Gymnasium's pages


def size(cell: Cell) -> int:
    """Parameters of the agent as it is trained: built in memory, on data of the published sizes."""
    states, actions = SIZES[cell.task.environment]
    data = Trajectories(
        states=np.ones((3, states), dtype=np.float32), actions=np.zeros((3, actions), dtype=np.float32),
        rewards=np.zeros(3), terminated=np.zeros(3, dtype=bool), offsets=np.array([0, 3]),
    )  # fmt: skip
    return sum(p.numel() for p in make_agent(cell, data).parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def made() -> list[Cell]:
    names = ["transformer", "mamba", "gloma", "mlp", "identity"]
    return planned(names, "d4rl", "quick", [0, 1], overrides=["match=params"])


def of(cells: Sequence[Cell], backbone: str) -> list[Cell]:
    return [cell for cell in cells if cell.backbone == backbone]


def test_the_reference_stays_as_it_is(made: list[Cell]) -> None:
    plain = planned(["transformer"], "d4rl", "quick", [0, 1])
    assert of(made, "transformer") == plain
    assert {cell.variant for cell in plain} == {""}


@pytest.mark.parametrize("backbone", ["mamba", "gloma", "mlp", "identity"])
def test_every_other_is_as_large(made: list[Cell], backbone: str) -> None:
    ours, theirs = of(made, backbone), of(made, "transformer")
    assert len(ours) == 18
    (width,) = {cell.model.d_model for cell in ours}
    for cell, reference in zip(ours, theirs, strict=True):
        assert cell.task == reference.task
        assert abs(size(cell) / size(reference) - 1) <= 0.03
        assert cell.variant == f"match=params:transformer model.d_model={width}"
        assert replace(cell.model, d_model=64) == reference.model


def test_keys_tell_a_matched_cell_from_another(made: list[Cell]) -> None:
    (cell, *_) = of(made, "gloma")
    by_hand = replace(cell, variant=f"model.d_model={cell.model.d_model}")
    assert cell.key != by_hand.key
    assert cell.key != replace(cell, variant=cell.variant.replace("transformer", "mamba")).key
    assert cell_of(cell.resolved()) == cell
    assert cell_of(cell.resolved()).key == cell.key
    assert len({cell.key for cell in made}) == len(made) == 90


def test_a_round_width_is_taken_where_one_fits(made: list[Cell]) -> None:
    """48 is a multiple of 16, and gloma at 48 is within 3 %; mamba has no multiple of 4 that is."""
    assert {cell.model.d_model for cell in of(made, "gloma")} == {48}
    (mamba,) = {cell.model.d_model for cell in of(made, "mamba")}
    reference = size(of(made, "transformer")[0])
    for width in (56, 60, 64):
        other = replace(of(made, "mamba")[0], model=replace(of(made, "mamba")[0].model, d_model=width))
        assert abs(size(other) / reference - 1) > 0.03
    assert mamba % 2 == 0


def test_a_part_of_the_suite_has_the_width_of_the_whole(made: list[Cell]) -> None:
    part = planned(["mamba"], "d4rl", "quick", [1], ["hopper-medium"], overrides=["match=params:transformer"])
    assert part == [cell for cell in of(made, "mamba") if cell.seed == 1 and cell.task.name == "hopper-medium"]


def test_variants_are_matched_one_by_one() -> None:
    cells = planned(
        ["gloma", "mlp"], "d4rl", "smoke", [0], ["hopper-medium"],
        overrides=["match=params", "model.d_model=32,48", "train.lr=0.001"],
    )  # fmt: skip
    assert [cell.variant for cell in of(cells, "gloma")] == [
        "model.d_model=32 train.lr=0.001", "model.d_model=48 train.lr=0.001"
    ]  # fmt: skip
    for cell, reference in zip(of(cells, "mlp"), of(cells, "gloma"), strict=True):
        assert abs(size(cell) / size(reference) - 1) <= 0.03
        assert cell.variant == f"train.lr=0.001 match=params:gloma model.d_model={cell.model.d_model}"


def heads(number: int) -> Cell:
    (cell,) = planned(
        ["transformer"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=[f"backbone.n_heads={number}"]
    )
    return replace(cell, variant="")


def test_a_width_that_the_heads_do_not_divide_is_none() -> None:
    (mlp,) = planned(["mlp"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["model.d_model=62"])
    mlp = replace(mlp, variant="")
    chosen = {number: match.match([mlp, heads(number)], "mlp")[1].model.d_model for number in (1, 6, 20)}
    assert all(width % number == 0 for number, width in chosen.items())
    assert chosen[20] == 60
    for number, width in chosen.items():
        cell = replace(heads(number), model=replace(mlp.model, d_model=width))
        assert abs(size(cell) / size(mlp) - 1) <= 0.03


def test_no_width_fits() -> None:
    (mlp,) = planned(["mlp"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["model.d_model=50"])
    mlp, cell = replace(mlp, variant=""), heads(20)
    with pytest.raises(UserError) as caught:
        match.match([mlp, cell], "mlp")
    counts = {width: size(replace(cell, model=replace(cell.model, d_model=width))) for width in (40, 60)}
    goal = size(mlp)
    said = "; ".join(
        f"{width} makes {count:,} of {goal:,} (hopper-medium, {abs(count / goal - 1):.1%} off)"
        for width, count in counts.items()
    )
    assert str(caught.value) == (
        f"match=params: no model.d_model of transformer comes within 3% of mlp's parameters: {said}; "
        "change model.n_layers, or remove transformer"
    )


def test_a_backbone_that_cannot_be_built() -> None:
    (cell,) = planned(["gloma"], "d4rl", "smoke", [0], ["hopper-medium"])
    broken = replace(cell, backbone="planted_backbones:RaisesWhenBuilt", options={})
    with pytest.raises(UserError, match=r"cannot be built at model\.d_model=32: ZeroDivisionError: no such width"):
        match.match([cell, broken], "gloma")
    refused = replace(heads(5), backbone="transformer", options={**heads(5).options, "n_heads": 8191})
    with pytest.raises(UserError, match="no width of transformer can be built: transformer: d_model="):
        match.match([cell, refused], "gloma")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["match=flops"], "override 'match=flops': give match=params, or match=params:BACKBONE, once"),
        (["match=params,none"], "give match=params, or"),
        (["match=params:mlp,mamba"], "give match=params, or"),
        (["match=params", "match=params:mlp"], "give match=params, or"),
        (["match=params:nothing"], "unknown backbone 'nothing'"),
        (["match=params:gloma"], "--backbone names no other backbone than gloma; name another"),
    ],
)
def test_what_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(["gloma"], "d4rl", "smoke", [0], overrides=overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_asked() -> None:
    assert match.asked(["a=1", "match=params"], ["x", "y"]) == (["a=1"], "x")
    assert match.asked(["match=params:m.n:C"], ["x"]) == ([], "m.n:C")
    assert match.asked(["a=1"], []) == (["a=1"], None)


def test_a_game_needs_its_data(new_store: Path) -> None:
    with pytest.raises(UserError, match="make it first: bench data make backbench/breakout/replay-1000-v1"):
        planned(["gloma", "mlp"], "atari", "smoke", [0], overrides=["match=params"])


def test_other_people_s_data_are_needed_too(new_store: Path) -> None:
    """Their longest episode may be longer than the task's limit."""
    with pytest.raises(UserError, match=r"sets the size of an agent, and .*bench data pull"):
        planned(["gloma", "mlp"], "d4rl", "smoke", [0], source="d4rl", overrides=["match=params"])


def test_a_matched_run(hopper_store: Path, tmp_path: Path, tiny_cell: Callable[..., Any]) -> None:
    """The record says so, and its number of parameters is the one that was matched."""

    from backbench.benchmarks.run.cell import run_cell

    reference, cell = match.match([tiny_cell("mlp"), tiny_cell("gloma")], "mlp")
    records = [run_cell(one, tmp_path) for one in (reference, cell)]
    assert [record.identity.variant for record in records] == ["", cell.variant]
    costs = [record.cost.parameters_total for record in records if record.cost is not None]
    assert costs == [size(reference), size(cell)]
    assert abs(costs[1] / costs[0] - 1) <= 0.03
