"""Every built-in backbone makes a record, from data to score."""

from __future__ import annotations

from pathlib import Path

import pytest
from planning import cells as planned

from backbench.backbones import BACKBONES
from backbench.benchmarks.data import sources
from backbench.benchmarks.run.cell import run_cell
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record

NAMES = [name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"]
HYBRID = "mamba+transformer"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources.make_all(["backbench/memory/parity-24-v1"], 1, lambda name: None)
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def records(results: Path) -> list[Record]:
    few = ["train.steps=3", "train.warmup=0", "train.evaluations=1", "eval.episodes=2", "model.n_layers=2"]
    made = planned([*NAMES, HYBRID], "memory", "smoke", [0], ["parity"], overrides=few)
    return [run_cell(cell, results, "cpu") for cell in made]


def test_each_ends_with_finite_scores_and_known_costs(records: list[Record]) -> None:
    for record in records:
        assert record.status == "done", record.failure
        assert record.cost is not None
        assert record.cost.flops_per_token is not None, record.identity.backbone
        assert not record.cost.flops_estimated, record.identity.backbone
        assert record.cost.state_bytes is not None
        assert (record.cost.state_bytes > 0) == (record.identity.backbone != "identity")


def test_one_board_shows_them_all(records: list[Record]) -> None:
    (section,) = build_board(records).sections
    assert {row.row.backbone for row in section.rows} == {*NAMES, HYBRID}
