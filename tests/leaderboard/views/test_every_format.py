"""Every format shows every board, and nothing is computed over tasks whose returns share no scale."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from record_factory import full_suite, make_record
from suite_records import suite_records

from backbench.benchmarks.run.sinks.tracking_view import board_metrics
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.export import FORMATS, export, pages_of

NO_REASON = "suite 'mine' has no normaliser: returns of its tasks share no scale, so it has no aggregates"


def unscaled() -> list[Record]:
    return suite_records("mine", "none", seeds=(0, 1, 2))


BOARDS: dict[str, Callable[[], list[Record]]] = {
    "no records": list,
    "d4rl": lambda: full_suite("gloma", 40.0) + full_suite("mamba", 50.0),
    "d4rl, one seed": lambda: full_suite("gloma", 40.0, seeds=(0,)),
    "a part of d4rl": lambda: [make_record("gloma"), make_record("mamba", failed="no")],
    "failed cells only": lambda: [make_record("gloma", failed="no")],
    "atari": lambda: suite_records("atari", "dt-gamer"),
    "own suite with declared returns": lambda: suite_records("mine", "declared"),
    "own suite without a normaliser": unscaled,
    "without a normaliser, one seed": lambda: suite_records("mine", "none", seeds=(0,)),
    "unknown FLOPs": lambda: suite_records("mine", "declared", flops_per_token=None),
    "unknown FLOPs of one row": lambda: full_suite("gru", 40.0, cost__flops_per_token=None) + full_suite("mamba", 50.0),
    "estimated FLOPs": lambda: full_suite("mambapy", 40.0, cost__flops_estimated=True),
    "mixed": lambda: unscaled() + suite_records("atari", "dt-gamer") + full_suite("gloma", 40.0),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", BOARDS)
def test_every_format_shows_every_board(name: str, format_: str, tmp_path: Path) -> None:
    records = BOARDS[name]()
    export(records, format_, tmp_path / "out")
    text = (tmp_path / "out" / "index.html" if format_ == "html" else tmp_path / "out").read_text()
    for record in records:
        assert record.identity.backbone in text
        assert record.identity.suite in text


def test_a_suite_without_a_normaliser_has_nothing_over_tasks_in_any_format() -> None:
    records = unscaled()
    (section,) = build_board(records).sections
    assert not section.complete
    assert section.data_aggregates == {}
    assert {task for row in section.rows for task in row.scores} == set(section.tasks)
    assert board_metrics(records) == {}
    pages = pages_of(records)

    (view,) = json.loads(pages["board.json"])["sections"]
    assert [(row["aggregates"], row["profile"]) for row in view["rows"]] == [(None, None)] * 2
    assert (view["data_mean"], view["data_iqm"], view["improvement"]) == (None, None, [])
    assert not any(view["pareto"].values())

    assert {line["kind"] for line in csv.DictReader(io.StringIO(pages["board.csv"]))} == {"task"}
    lines = [line.split("|")[1].strip() for line in pages["board.md"].splitlines() if line.startswith("|")]
    assert not re.search(r"mean|median|iqm|gap|better", " ".join(lines).lower())
    for words in ('class="g-agg"', "Performance profile", "Probability of improvement,", "IQM against"):
        assert words not in pages["index.html"]
    for page in ("board.md", "index.html"):
        assert NO_REASON in re.sub(r"<[^>]+>|&#x27;|&#39;|’", lambda one: "" if one[0][0] == "<" else "'", pages[page])


def test_a_normalised_suite_beside_it_keeps_its_aggregates() -> None:
    alone, beside = full_suite("gloma", 40.0), BOARDS["mixed"]()
    rows = [row for section in build_board(beside).sections for row in section.rows if section.setting.suite == "d4rl"]
    assert rows[0].aggregates == build_board(alone).sections[0].rows[0].aggregates
    assert set(rows[0].aggregates) == {"mean", "median", "iqm", "optimality_gap"}


def test_unknown_flops_are_a_word_and_not_a_number() -> None:
    pages = pages_of(BOARDS["unknown FLOPs of one row"]())
    (line,) = [line for line in pages["board.md"].splitlines() if line.startswith("| FLOPs per token")]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["unknown", "50,000"]
    assert "Unknown FLOPs per token, so without a place in that front: gru." in pages["board.md"]
    assert "FLOPs per token: unknown for gru." in pages["index.html"]
    assert ">unknown</td>" in pages["index.html"]
    (row,) = [page for name, page in pages.items() if name.startswith("rows/gru")]
    assert re.search(r"FLOPs per token</dt><dd>unknown", row)
    costs = {one["backbone"]: one["flops_per_token"] for one in csv.DictReader(io.StringIO(pages["board.csv"]))}
    assert costs == {"gru": "", "mamba": "50000.0"}


def test_estimated_flops_are_noted() -> None:
    said = "mambapy: its FLOPs are estimated: a module without a formula counts by its weights"
    pages = pages_of(BOARDS["estimated FLOPs"]())
    assert said in pages["board.md"]
    assert said in pages["index.html"]
