"""An exported folder is loaded as the record that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import backbench
from backbench import UserError
from backbench.benchmarks.export.write import Request, export
from backbench.benchmarks.plan.settings import Cell


@pytest.fixture(scope="module")
def made(hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    record = backbench.run_cell(tiny_cell("identity"), folder / "results")
    export(Request(record.key, folder / "agent", results=folder / "results"))
    return folder


def test_an_exported_agent_decides_as_the_one_in_the_results(made: Path) -> None:
    (path,) = (made / "results" / "records").glob("*.json")
    agents = [
        backbench.load_agent(path),
        backbench.from_pretrained(made / "agent"),
        backbench.load_agent(made / "agent"),
        backbench.from_pretrained(made / "agent", acting="recurrent"),
    ]
    observation = np.linspace(-1, 1, 11)
    first, *others = (agent.act(observation) for agent in agents)
    assert all(np.array_equal(first, other) for other in others[:2])
    assert np.allclose(first, others[2], atol=1e-6)
    assert agents[3].cell.eval.acting == "recurrent"
    assert agents[1].record == agents[0].record


def test_a_folder_that_is_no_export_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json, so no agent can be loaded from it"):
        backbench.from_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no folder .*; bench export RECORD --to FOLDER makes one"):
        backbench.from_pretrained(tmp_path / "nothing")
