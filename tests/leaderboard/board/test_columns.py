"""One entry in the list of columns is enough for every view."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from record_factory import full_suite
from rich.console import Console

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.board.columns import CostColumn, Metric
from backbench.leaderboard.views.export import pages_of
from backbench.leaderboard.views.text import to_rich

RECORDS = [*full_suite("gloma", 40.0), *full_suite("mamba", 41.0)]


def every_view() -> dict[str, str]:
    """The five views of ``RECORDS`` by name."""
    console = Console(width=100, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(to_rich(build_board(RECORDS), 100))
    pages = pages_of(RECORDS)
    return {
        "terminal": capture.get(),
        "markdown": pages["board.md"],
        "csv": pages["board.csv"],
        "json": pages["board.json"],
        "html": pages["index.html"],
        "row": next(text for name, text in pages.items() if name.startswith("rows/")),
    }


def test_an_added_cost_is_in_every_view(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = CostColumn(key="kilojoules", title="Energy", unit="kJ", read=lambda cost: cost.cpu_seconds * 0.12345)
    before = every_view()
    monkeypatch.setattr(columns, "COSTS", (*columns.COSTS, energy))
    views = every_view()
    assert not any(word in text for text in before.values() for word in ("energy, kJ", "Energy", "kilojoules"))
    assert "energy, kJ" in views["terminal"]
    assert "| energy, kJ |  | 9.88 | 9.88 |" in views["markdown"]
    assert all(line["kilojoules"] == "9.876" for line in csv.DictReader(io.StringIO(views["csv"])))
    (section,) = json.loads(views["json"])["sections"]
    assert [row["cost"]["kilojoules"] for row in section["rows"]] == [9.876, 9.876]
    assert section["pareto"]["kilojoules"] == [section["rows"][1]["id"]]
    assert 'data-key="kilojoules"' in views["html"]
    assert "IQM against energy" in views["html"]
    assert "9.88 kJ" in views["row"]


def test_an_added_metric_is_in_every_view(monkeypatch: pytest.MonkeyPatch) -> None:
    worst = Metric(key="worst", title="Worst run", statistic=lambda scores: np.asarray(scores.min(axis=(-2, -1))))
    monkeypatch.setattr(columns, "METRICS", (*columns.METRICS, worst))
    views = every_view()
    assert "worst run" in views["terminal"]
    assert "| worst run |  | 40.0 (40.0, " in views["markdown"]
    found = [line["value"] for line in csv.DictReader(io.StringIO(views["csv"])) if line["name"] == "worst"]
    assert found == ["40.0", "41.0"]
    (section,) = json.loads(views["json"])["sections"]
    assert [row["aggregates"]["worst"]["value"] for row in section["rows"]] == [40.0, 41.0]
    assert 'data-key="worst"' in views["html"]
    assert "Worst run" in views["row"]


def test_a_column_may_be_left_out_of_text_and_page(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = CostColumn(key="hidden", title="Hidden", read=lambda cost: 1.0, shown_in=frozenset())
    monkeypatch.setattr(columns, "COSTS", (*columns.COSTS, hidden))
    views = every_view()
    assert "hidden" not in views["terminal"] + views["markdown"]
    assert 'data-key="hidden"' not in views["html"]
    assert json.loads(views["json"])["sections"][0]["rows"][0]["cost"]["hidden"] == 1.0


def test_keys_are_unique() -> None:
    keys = [column.key for column in (*columns.COSTS, *columns.METRICS)]
    assert len(set(keys)) == len(keys)


def test_names_fit_into_a_sentence() -> None:
    names = {column.key: (column.name, column.label, column.axis) for column in columns.COSTS}
    assert names["flops_per_token"] == ("FLOPs per token", "FLOPs per token", "FLOPs per token")
    assert names["peak_memory_mb"] == ("peak memory", "peak memory, MB", "Peak memory, MB")
    assert names["train_tokens_per_s"] == ("train tokens/s", "train tokens/s", "Training speed, tokens/s")
