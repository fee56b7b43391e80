"""A record's cell and trained agent are rebuilt from its settings and weights."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import record_factory
import torch

from backbench.agents.heads import HEADS, ActionSpace, TanhHead
from backbench.benchmarks.data import store
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell, ModelConfig
from backbench.benchmarks.replay.load import find_record, head_of, load_agent
from backbench.benchmarks.run import checkpoint
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record


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
