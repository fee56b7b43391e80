"""A cell is rebuilt from the plain values of its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import GYM_ONLY
from planning import cells as planned

from backbench.backbones import BACKBONES, make_options
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.compose import presets
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell, EvalConfig, TrainConfig
from backbench.errors import UserError
from backbench.leaderboard.record.identity import ADDED


def through_json(cell: Cell) -> Any:
    return json.loads(json.dumps(cell.resolved()))


@pytest.mark.parametrize(
    ("suite", "preset"),
    [(suite, preset) for suite in suites.suites() for preset in presets() if (suite, preset) not in GYM_ONLY],
)
def test_every_presets_cell_is_rebuilt_from_json(suite: str, preset: str) -> None:
    atari = suite.startswith("atari")
    overrides = ["eval.temperature=0"] if atari else ["backbone.n_heads=2,1", "eval.targets=[3.5,1]"]
    made = planned(["transformer"], suite, preset, [0, 7], overrides=overrides)
    assert made
    for cell in made:
        again = cell_of(through_json(cell))
        assert again == cell
        assert again.key == cell.key
        assert isinstance(again.atari, AtariProtocol) == atari


numbers = st.floats(1e-6, 1e6) | st.integers(1, 1000)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lr=numbers,
    targets=st.lists(numbers, max_size=3, unique=True).map(tuple),
    options=st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | numbers | st.lists(numbers), max_size=3),
    atari=st.none() | st.builds(AtariProtocol, frame_skip=st.integers(1, 9), sticky=st.floats(0, 0.99)),
    variant=st.text(max_size=10),
)
def test_any_cell_is_rebuilt_from_json(
    seed: int, lr: float, targets: Any, options: Any, atari: AtariProtocol | None, variant: str
) -> None:
    cell = Cell(
        "transformer", suites.resolve("d4rl", "hopper-medium", "embedded"), seed=seed, options=options, variant=variant,
        train=TrainConfig(lr=lr), eval=EvalConfig(targets=targets), atari=atari,
    )  # fmt: skip
    again = cell_of(through_json(cell))
    assert again == cell
    assert again.key == cell.key, "whole numbers and fractions are told apart by the key"


@pytest.mark.parametrize(("suite", "task"), [("d4rl", "hopper-medium"), ("atari", "pong")])
def test_a_record_from_before_a_setting_existed_has_its_default(suite: str, task: str) -> None:
    options = set()
    for cell in planned(["transformer", "mamba", "gloma"], suite, "smoke", [0], [task]):
        older = through_json(cell)
        for name in ADDED:
            group, _, setting = name.partition(".")
            # An option is of one backbone, and another one may have had its name from the beginning.
            if group == "options" and older[group].get(setting) == ADDED[name]:
                options.add(name)
                del older[group][setting]
            elif group != "options" and older[group] is not None:
                del older[group][setting]
        read, backbone = cell_of(older), BACKBONES.get(cell.backbone)
        assert make_options(backbone, read.options) == make_options(backbone, cell.options)
        assert replace(read, options=cell.options) == cell
        assert read.key == cell.key
    assert options == {name for name in ADDED if name.startswith("options.")}


def _without(content: Any, *path: str) -> Any:
    for part in path[:-1]:
        content = content[part]
    del content[path[-1]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["model"].update(depth=3), "unknown model.depth"),
        (lambda c: c.update(extra={}), "unknown extra"),
        (lambda c: _without(c, "eval", "temperature"), "missing eval.temperature"),
        (lambda c: _without(c, "task"), "missing task"),
        (lambda c: c["train"].update(steps="many"), "train.steps is 'many'"),
        (lambda c: c["train"].update(steps=True), "train.steps is True"),
        (lambda c: c["train"].update(bf16=1), "train.bf16 is 1"),
        (lambda c: c["train"].update(betas=0.9), "train.betas is 0.9"),
        (lambda c: c["train"].update(betas=[0.9, "x"]), "train.betas is 'x'"),
        (lambda c: c.update(model=[1]), "settings model"),
        (lambda c: c["model"].update(d_model=0), "model.d_model=0"),
        (lambda c: c.update(atari={"frame_skip": 4}), "missing atari.max_pool"),
        (lambda c: c["task"].update(observe={"missing": 0.5}), "missing task.observe.keep"),
        (lambda c: c["task"].update(observe={"keep": ["x"], "missing": 0.5}), "task.observe.keep is 'x'"),
        (lambda c: c["task"].update(observe={"keep": [0, 0], "missing": 0.5}), "observe.keep: an index is there twice"),
        (lambda c: c["task"].update(observe={"keep": [], "missing": 1.0}), "observe.missing=1.0"),
    ],
)
def test_wrong_settings_are_named(tiny_cell: Callable[..., Cell], change: Callable[[Any], None], named: str) -> None:
    content = through_json(tiny_cell())
    cell_of(content)
    change(content)
    with pytest.raises(UserError, match=named) as caught:
        cell_of(content)
    assert "\n" not in str(caught.value)
