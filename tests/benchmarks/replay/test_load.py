"""A record's cell and trained agent are rebuilt from its settings and weights."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import record_factory
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import GYM_ONLY
from planning import cells as planned

from backbench.agents.heads import HEADS, ActionSpace, TanhHead
from backbench.backbones import BACKBONES, make_options
from backbench.benchmarks.data import store
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.compose import presets
from backbench.benchmarks.plan.settings import Cell, EvalConfig, ModelConfig, TrainConfig
from backbench.benchmarks.replay.load import cell_of, find_record, head_of, load_agent
from backbench.benchmarks.run import checkpoint
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record
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


@pytest.mark.parametrize("timestep", ["step", "window"])
def test_an_agent_is_loaded_without_its_data(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path: Path, timestep: str
) -> None:
    cell = replace(tiny_cell(seed=5), model=ModelConfig(d_model=16, n_layers=1, context=4, timestep=timestep))
    trained = make_agent(cell, store.read(cell.task.data_id))
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(torch.randn_like(p))
    path = tmp_path / "last.safetensors"
    checkpoint.save_weights(path, trained.state_dict(), {"cell": cell.key})
    agent = load_agent(cell, path, "tanh")
    assert checkpoint.weights_digest(agent.state_dict()) == checkpoint.weights_digest(trained.state_dict())
    inputs = (torch.randn(2, 4), torch.randn(2, 4, 11), torch.randn(2, 4, 3), torch.arange(8).view(2, 4))
    assert torch.equal(agent(*inputs), trained.eval()(*inputs))
    assert not agent.training


def test_records_without_a_head_are_told_apart_by_their_sampling() -> None:
    """A head without a bias is not taken for another one."""
    old = {name: record_factory.make_record(protocol__sampling=name) for name in ("deterministic", "greedy")}
    assert {name: (record.protocol.head, head_of(record)) for name, record in old.items()} == {
        "deterministic": (None, "tanh"), "greedy": (None, "categorical"),
    }  # fmt: skip
    assert head_of(record_factory.make_record(protocol__sampling="sampled at T=1")) == "categorical"
    assert head_of(record_factory.make_record(protocol__head="other", protocol__sampling="deterministic")) == "other"


class BareHead(TanhHead):
    """Another continuous head, without a bias."""

    name = "bare"

    def __init__(self, d_model: int, actions: ActionSpace) -> None:
        super().__init__(d_model, actions, bias=False)


def test_the_head_that_the_record_names_is_rebuilt(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADS._builtin, "bare", f"{__name__}:BareHead")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[BareHead.__module__])
    cell = tiny_cell()
    path = tmp_path / "last.safetensors"
    trained = make_agent(cell, store.read(cell.task.data_id), head="bare")
    checkpoint.save_weights(path, trained.state_dict(), {"cell": cell.key})
    assert type(load_agent(cell, path, "bare").head) is BareHead
    with pytest.raises(UserError, match="do not fit the agent"):
        load_agent(cell, path, "tanh")
    with pytest.raises(UserError, match="unknown action head 'bear'; did you mean 'bare'"):
        load_agent(cell, path, "bear")


@pytest.mark.parametrize("rows", [7, 5000])
def test_a_reloaded_agent_has_the_timestep_table_that_it_was_trained_with(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path: Path, rows: int
) -> None:
    """Also one that is shorter or longer than a new agent's."""
    cell = tiny_cell()
    trained = make_agent(cell, store.read(cell.task.data_id), timesteps=rows)
    path = tmp_path / "last.safetensors"
    checkpoint.save_weights(path, trained.state_dict(), {"cell": cell.key})
    agent = load_agent(cell, path, "tanh")
    assert len(agent.tokenizer.embed_timestep.weight) == rows
    assert checkpoint.weights_digest(agent.state_dict()) == checkpoint.weights_digest(trained.state_dict())


def test_missing_foreign_or_broken_weights_are_refused(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    cell, other = tiny_cell(), tiny_cell(seed=1)
    weights = make_agent(cell, store.read(cell.task.data_id)).state_dict()
    path = tmp_path / "last.safetensors"
    with pytest.raises(UserError, match=r"no weights .*last\.safetensors"):
        load_agent(cell, path, "tanh")
    checkpoint.save_weights(path, weights, {"cell": other.key})
    with pytest.raises(UserError, match=f"of cell {other.key}, not of {cell.key}"):
        load_agent(cell, path, "tanh")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        load_agent(other, path, "tanh")
    for broken in ({**weights, "more": torch.zeros(1)}, {k: v for k, v in weights.items() if "mean" not in k}):
        checkpoint.save_weights(path, broken, {"cell": cell.key})
        with pytest.raises(UserError, match="do not fit the agent"):
            load_agent(cell, path, "tanh")


def test_a_record_is_found_by_path_or_part_of_its_key(tmp_path: Path) -> None:
    records = [record_factory.make_record(backbone, seed=seed) for backbone in ("mlp", "gloma") for seed in (0, 1)]
    results = tmp_path / "results"
    with pytest.raises(UserError, match="has no records; name their folder"):
        find_record("mlp", results)
    for record in records:
        dump_record(record, results / "records" / f"{record.key}.json")
    first = results / "records" / f"{records[0].key}.json"
    elsewhere = tmp_path / "loose.json"
    shutil.copy(first, elsewhere)
    assert find_record(str(first), Path("none")) == (records[0], results)
    assert find_record(str(elsewhere), results) == (records[0], results)
    assert find_record("mlp.hopper-medium.embedded.quick.s1", results)[0] == records[1]
    assert find_record(records[2].key, results)[0] == records[2]
    with pytest.raises(UserError, match=r"part of 2 keys: gloma.*s0.*gloma.*s1.*; give a longer part"):
        find_record("gloma", results)
    with pytest.raises(UserError, match="no record 'mamba' among the 4"):
        find_record("mamba", results)
    first.write_text("{")
    with pytest.raises(UserError, match="truncated"):
        find_record(records[0].key, results)
