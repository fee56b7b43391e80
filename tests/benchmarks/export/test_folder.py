"""An exported folder is complete, loads as the agent that it was, and is refused in one line when it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from backbench.agents.agent import Agent
from backbench.benchmarks.export import folder as layout
from backbench.benchmarks.export.write import Request, export
from backbench.benchmarks.plan.settings import Cell, EvalConfig
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.checkpoint import weights_digest
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

ROBOT = EvalConfig(episodes=3, max_steps=40, targets=(3600.0, 1800.0))


@pytest.fixture(scope="module")
def made(hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A record with its results, and its exported folder."""
    results = tmp_path_factory.mktemp("results")
    record = run_cell(tiny_cell("mlp", eval=ROBOT), results, "cpu")
    assert record.scores is not None, record.failure
    folder = tmp_path_factory.mktemp("agents") / "mlp"
    assert export(Request(record.key, folder, results=results))[0].startswith(f"written: {folder}")
    return record, results, folder


def loaded(folder: Path) -> Agent:
    record, weights = layout.read(folder)
    return load_agent(cell_to_run(record, folder), weights, head_of(record), record.provenance.weights_sha256)


def test_the_exported_folder_gives_back_the_agent(made: tuple[Record, Path, Path]) -> None:
    record, _, folder = made
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "record.json",
    ]  # fmt: skip
    assert layout.read(folder).record == record
    assert weights_digest(loaded(folder).state_dict()) == record.provenance.weights_sha256
    assert layout.is_export(folder)
    assert not layout.is_export(folder.parent)


def test_its_settings_have_what_a_player_needs(made: tuple[Record, Path, Path]) -> None:
    record, _, folder = made
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert said["targets"] == [3600.0, 1800.0]
    assert said["environment"]["id"] == "Hopper-v5"
    assert said["observation"]["shape"] == [11]
    assert len(said["normaliser"]["mean"]) == len(said["normaliser"]["std"]) == 11
    assert said["action"]["low"] == [-1.0] * 3
    assert said["cell"] == record.provenance.config
    assert (said["weights_sha256"], said["head"]) == (record.provenance.weights_sha256, "tanh")


def test_its_card_has_the_scores_for_people_and_for_programs(made: tuple[Record, Path, Path]) -> None:
    record, _, folder = made
    assert record.headline is not None
    _, front, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    said = yaml.safe_load(front)
    (result,) = said["model-index"][0]["results"]
    assert result["dataset"] == {"name": "hopper-medium", "type": "Hopper-v5"}
    reward, score = result["metrics"]
    assert reward["value"].startswith(f"{record.headline.raw_mean:.2f} +/- ")
    assert score["value"] == round(record.headline.normalised_mean, 2)
    assert (said["library_name"], said["license"]) == ("backbench", "mit")
    assert {"reinforcement-learning", "mlp"} <= set(said["tags"])
    rows = [line for line in body.splitlines() if line.startswith("| 3600 |") or line.startswith("| 1800 |")]
    assert len(rows) == 2
    assert f"| {record.headline.raw_mean:.2f} | " in rows[0]
    assert all(" to " in row for row in rows)
    assert "backbench.from_pretrained" in body


def test_hugging_faces_own_reader_understands_the_card(made: tuple[Record, Path, Path]) -> None:
    from huggingface_hub import ModelCard

    record, _, folder = made
    assert record.headline is not None
    about = ModelCard.load(folder / "README.md").data
    assert (about.library_name, about.license) == ("backbench", "mit")
    reward, score = about.eval_results
    assert (score.task_type, score.dataset_type) == ("reinforcement-learning", "Hopper-v5")
    assert score.metric_value == round(record.headline.normalised_mean, 2)
    assert reward.dataset_name == "hopper-medium"


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _other_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["head.project.bias"] += 1e-3
    key = json.loads((folder / "record.json").read_text(encoding="utf-8"))["key"]
    save_file(weights, folder / "model.safetensors", {"cell": key})


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _set(name: str, value: Any, sealed: bool = True) -> Callable[[Path], None]:
    """Change a field; ``sealed``: with a digest that fits."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        said = json.loads(path.read_text(encoding="utf-8")) | {name: value}
        said |= {"sha256": layout.content_digest(said)} if sealed else {}
        path.write_text(json.dumps(said), encoding="utf-8")

    return change


def _replaced(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8") and None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without_weights, "has no model.safetensors, so no agent can be loaded from it; export the agent again"),
        (lambda folder: (folder / "record.json").unlink(), r"has no record\.json"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (_set("format", 2), r"config\.json: format 2 is of another version, this release reads 1; load it with"),
        (_set("format", True), "format True is of another version"),
        (_set("key", "x"), r"key is not that of record\.json; one of the two was changed"),
        (_set("weights_sha256", "0" * 64), r"weights_sha256 is not that of record\.json"),
        (_set("cell", {}), r"cell is not that of record\.json"),
        (_set("targets", [9000.0], sealed=False), "is not as it was exported: its sha256 is another; export the agent"),
        (_set("sha256", None, sealed=False), "its sha256 is another"),
        (_other_weights, "are not those that the record was made with"),
        (_truncated, r"cannot be read \(.*\); "),
        (_replaced("config.json", "[]"), "is no mapping"),
        (_replaced("config.json", "{"), r"config.json is .*; export the agent again, or fetch"),
        (_replaced("record.json", "{}"), "record.json.*; export the agent again, or fetch"),
        (_replaced("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "fetch .* with: git lfs pull"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    damage: Callable[[Path], None], said: str, made: tuple[Record, Path, Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(made[2], tmp_path / "copy"))
    damage(copy)
    with pytest.raises(UserError, match=said) as caught:
        loaded(copy)
    assert "\n" not in str(caught.value)


def test_no_folder_is_overwritten_and_an_empty_one_is_used(made: tuple[Record, Path, Path], tmp_path: Path) -> None:
    record, results, folder = made
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(UserError, match="is there already; give the name of a new folder"):
        export(Request(record.key, folder, results=results))
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    export(Request(record.key, tmp_path, results=results))
    assert layout.read(tmp_path).record == record


def test_what_fails_leaves_nothing_behind(
    made: tuple[Record, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backbench.benchmarks.export import write

    def fail(*_: object) -> str:
        raise RuntimeError("planted")

    record, results, _ = made
    monkeypatch.setattr(write, "card", fail)
    with pytest.raises(RuntimeError, match="planted"):
        export(Request(record.key, tmp_path / "new", results=results))
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_cannot_be_is_refused(
    made: tuple[Record, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backbench.benchmarks.export import onnx

    record, results, _ = made
    asked = Request(record.key, tmp_path / "new", results=results)
    with pytest.raises(UserError, match="--format onx: there is no such format; did you mean 'onnx'"):
        export(replace(asked, formats=("onx",)))
    with pytest.raises(UserError, match="no record 'nothing'"):
        export(replace(asked, name="nothing"))
    with pytest.raises(UserError, match=r"cannot write .*; choose another folder"):
        export(replace(asked, to=Path("/proc/nothing/here")))
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--format onnx: ONNX needs onnx, .*: pip install 'backbench\[onnx\]'"):
        export(replace(asked, formats=("onnx",)))
    assert list(tmp_path.iterdir()) == []


def test_the_global_generator_is_left_as_it_was(made: tuple[Record, Path, Path], tmp_path: Path) -> None:
    record, results, _ = made
    torch.manual_seed(7)
    before = torch.get_rng_state()
    export(Request(record.key, tmp_path / "new", results=results))
    assert torch.equal(torch.get_rng_state(), before)
