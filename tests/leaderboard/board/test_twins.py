"""Observability gap and memory bias: a row beside the row of its twins, where nothing is hidden."""

from __future__ import annotations

from typing import Any

import pytest
from record_factory import make_record

from backbench.leaderboard.board import board as boards
from backbench.leaderboard.board.board import Row, build_board
from backbench.leaderboard.board.notes import notes_of
from backbench.leaderboard.board.twins import Twin
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.tables import to_view
from backbench.leaderboard.views.text import tabulate

TASKS = ("hopper-medium", "walker2d-medium")
HIDDEN, SEEN = "d4rl", "d4rl-positions"


@pytest.fixture(autouse=True)
def _twin_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two suites of the factory's tasks stand for a suite and that of its twins."""
    monkeypatch.setattr(boards, "TWINS", {HIDDEN: SEEN})


def cells(backbone: str, suite: str, *scores: float, seeds: int = 2, **more: Any) -> list[Record]:
    """A cell for each task and seed; a seed adds a point."""
    return [
        make_record(backbone, task, seed, scores=(score + seed,) * 3, identity__suite=suite, **more)
        for task, score in zip(TASKS, scores, strict=False)
        for seed in range(seeds)
    ]


def row(records: list[Record], backbone: str, suite: str = HIDDEN) -> Row:
    (section,) = (one for one in build_board(records).sections if one.setting.suite == suite)
    return next(one for one in section.rows if one.row.backbone == backbone)


def test_gap_and_bias_are_means_of_differences() -> None:
    records = [*cells("mamba", HIDDEN, 10, 20), *cells("mamba", SEEN, 70, 90), *cells("mlp", SEEN, 65, 97)]
    twin = row(records, "mamba").twin
    assert twin is not None
    assert twin.tasks == TASKS
    assert twin.gap.value == pytest.approx((60 + 70) / 2)
    assert twin.bias is not None
    assert twin.bias.value == pytest.approx((5 - 7) / 2)
    assert (twin.gap.interval.over, twin.gap.interval.n) == ("seeds", 2)  # type: ignore[union-attr]
    assert row(records, "mamba", SEEN).twin is None


def test_only_tasks_and_seeds_of_both_sides_count() -> None:
    records = [*cells("mamba", HIDDEN, 10, 20), *cells("mamba", SEEN, 70, seeds=1)]
    twin = row(records, "mamba").twin
    assert twin is not None
    assert (twin.tasks, twin.bias) == (TASKS[:1], None)
    assert (twin.gap.value, twin.gap.interval) == (pytest.approx(60), None)


def test_without_a_common_seed_there_is_no_twin() -> None:
    assert Twin.of({"a": {0: 1.0}}, {"a": {1: 2.0}}, None) is None
    assert Twin.of({"a": {0: 1.0}}, {"b": {0: 2.0}}, None) is None
    assert row([*cells("mamba", HIDDEN, 10), *cells("gloma", SEEN, 70)], "mamba").twin is None


def test_tasks_without_a_seed_in_common_count_by_their_means() -> None:
    twin = Twin.of({"a": {0: 1.0, 1: 3.0}, "b": {2: 5.0}}, {"a": {0: 11.0, 1: 13.0}, "b": {2: 25.0}}, None)
    assert twin is not None
    assert (twin.gap.value, twin.gap.interval) == (pytest.approx(15), None)


def test_a_tuned_row_has_a_tuned_twin_whatever_its_setting() -> None:
    def tuned(rate: str) -> dict[str, str]:
        return {"variant": f"train.lr={rate} tune=2:train.lr:0a1b2c3d"}

    records = [*cells("mamba", HIDDEN, 10, **tuned("0.001")), *cells("mamba", SEEN, 70, **tuned("0.003"))]
    untuned = cells("mamba", SEEN, 50, variant="train.lr=0.003")
    found = row(records + untuned, "mamba").twin
    assert found is not None
    assert found.gap.value == pytest.approx(60)
    assert row([*records[:2], *untuned], "mamba").twin is None


def test_every_view_has_them() -> None:
    records = [*cells("mamba", HIDDEN, 10, 20), *cells("mamba", SEEN, 70, 90), *cells("mlp", SEEN, 65, 97)]
    board = build_board(records)
    section = next(one for one in board.sections if one.setting.suite == HIDDEN)
    lines = {line[0].main: line[2].main for table in tabulate(board) for block in table.blocks for line in block}
    assert (lines["observability gap"], lines["memory bias"]) == ("+65.0", "-1.0")
    assert any(note.startswith("Observability gap: ") for note in notes_of(section, []))
    view = next(one for one in to_view(board, records)["sections"] if one["suite"] == HIDDEN)
    assert view["rows"][0]["twin"]["observability_gap"]["value"] == 65
