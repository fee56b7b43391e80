"""A record of anybody's: its key comes first, and what it names is imported with ``--trust`` only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.replay.trust import cell_to_run
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record
from backbench.leaderboard.record.schema import Record

EVIL = "open('ran', 'w').close()\nraise SystemExit('it was imported')\n"


def recelled(record: Record, cell: Any) -> Record:
    """``record`` as if it were of another cell: everything agrees, as whoever wants to harm would have it."""
    content = json.loads(record.model_dump_json())
    content["provenance"]["config"], content["key"] = cell.resolved(), cell.key
    identity, task = content["identity"], cell.task
    identity |= {"backbone": cell.backbone, "options": dict(cell.options), "environment": task.env_id}
    identity |= {"suite": task.suite, "suite_tasks": list(task.suite_tasks)}
    content["protocol"]["environment"] = dict(task.env_kwargs)
    identity["model"] |= {"d_model": cell.model.d_model, "n_layers": cell.model.n_layers}
    return Record.model_validate_json(json.dumps(content))


@pytest.fixture
def cell(tiny_cell: Callable[..., Any], record: Record) -> Any:
    return tiny_cell("gloma", options=record.identity.options)


def own(cell: Any, **changes: Any) -> Any:
    """The cell in a suite of its author's own."""
    return replace(cell, task=replace(cell.task, suite="mine", suite_tasks=("hopper-medium",), **changes))


def test_a_record_of_a_built_in_backbone_and_suite_needs_no_trust(record: Record) -> None:
    assert cell_to_run(record, "r.json").key == record.key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cell: replace(cell, backbone="evil_module:X", options={}), "its backbone evil_module:X is code"),
        (lambda cell: own(cell, env_id="evil_module:Hopper-v5"), "imports the module evil_module"),
        (lambda cell: own(cell, env_kwargs={"xml_file": "evil.xml"}), "gets arguments that no suite of Backbench has"),
        (lambda cell: replace(cell, model=replace(cell.model, n_layers=10**6)), "it asks for model.n_layers=1,000,000"),
        (lambda cell: replace(cell, options={**cell.options, "window": 10**9}), "it asks for backbone.window=1,000,"),
    ],
)
def test_what_a_record_names_needs_trust(record: Record, cell: Any, change: Callable[[Any], Any], said: str) -> None:
    foreign = recelled(record, change(cell))
    with pytest.raises(UserError, match=f"^r.json: .*{said}.*give --trust$"):
        cell_to_run(foreign, "r.json")
    assert cell_to_run(foreign, "r.json", trust=True).key == foreign.key
    assert "evil_module" not in sys.modules


def test_the_key_is_compared_before_the_backbone_is_looked_at(record: Record, cell: Any) -> None:
    content = json.loads(recelled(record, replace(cell, backbone="evil_module:X")).model_dump_json())
    content["provenance"]["config"]["train"]["steps"] += 1
    with pytest.raises(UserError, match="its settings make the cell"):
        cell_to_run(Record.model_validate_json(json.dumps(content)), "r.json", trust=True)


def test_settings_that_contradict_the_record_are_refused(record: Record, cell: Any) -> None:
    content = json.loads(recelled(record, replace(cell, backbone="evil_module:X")).model_dump_json())
    content["identity"]["backbone"] = "gloma"
    with pytest.raises(UserError, match=r"identity.backbone: 'gloma', and 'evil_module:X' in provenance.config"):
        cell_to_run(Record.model_validate_json(json.dumps(content)), "r.json", trust=True)


@pytest.mark.parametrize("command", ["reproduce", "watch"])
@pytest.mark.parametrize("part", ["backbone", "environment"])
def test_no_command_imports_a_module_that_a_record_names(
    record: Record, cell: Any, tmp_path: Path, bench: Callable[..., Any], command: str, part: str
) -> None:
    (tmp_path / "evil_module.py").write_text(EVIL, encoding="utf-8")
    changed = replace(cell, backbone="evil_module:X", options={})
    if part == "environment":
        changed = own(cell, env_id="evil_module:X-v0")
    dump_record(recelled(record, changed), tmp_path / "r.json")
    ran = bench(command, "r.json", PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[3] / 'src'}")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "give --trust" in ran.err
    assert not (tmp_path / "ran").exists()
