"""The main table."""

from __future__ import annotations

import re

import pytest
from html_document import Document
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.scores.statistics import COVERAGE
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.page.table import ordered


def test_the_table_has_every_number() -> None:
    view = make_view()
    section = view["sections"][0]
    page = build(view)["index.html"]
    found = Document(page)
    rows = [attrs for attrs in found.of("tr") if attrs.get("data-name")]
    assert [attrs["data-row"] for attrs in rows] == [row["id"] for row in ordered(section["rows"])]
    heads = [attrs for attrs in found.of("th") if "data-key" in attrs]
    assert [attrs["data-key"] for attrs in heads] == [
        "name", "iqm", "mean", "median", "optimality_gap", *(f"task:{task}" for task in TASKS), "parameters",
        "parameters_backbone", "flops_per_token", "train_tokens_per_s", "decision_p50_ms", "decision_p95_ms",
        "peak_memory_mb", "wall_seconds", "seeds", "failed",
    ]  # fmt: skip
    assert [attrs["data-key"] for attrs in heads if attrs.get("aria-sort")] == ["iqm"]
    first = section["rows"][0]
    line = page[page.index(f'data-row="{first["id"]}"') :].partition("</tr>")[0]
    values = re.findall(r"<td>(?:<b>|<span[^>]*>)?([\d.,]+)", line)
    expected = [first["aggregates"][name]["value"] for name in ("iqm", "mean", "median", "optimality_gap")]
    expected += [first["scores"][task]["value"] for task in TASKS]
    expected += [*(cost for cost in first["cost"].values() if cost is not None), 3, 0]
    assert [float(value.replace(",", "")) for value in values] == pytest.approx(expected, abs=0.05)
    assert "[72.0, 79.0]" in found.text
    assert "135 records" in found.text
    for shares in (COVERAGE["iqm"], COVERAGE["task"]):
        assert ", ".join(f"{share:.0%} with {seeds}" for seeds, share in shares.items()) in found.text
    assert not [attrs for attrs in found.of("svg") if attrs.get("role") != "img" and attrs.get("aria-hidden") != "true"]


def test_tuned_rows_and_rows_with_a_twin_have_more_columns() -> None:
    section = make_section(rows=2)
    section["tuning"] = "2:train.lr:0a1b2c3d"
    tuned, bare = section["rows"]
    trials = [{"setting": "train.lr=0.001", "score": 61.5}, {"setting": "train.lr=0.01", "score": None}]
    tuned["tuning"] = {"trials": trials, "tasks": ["parity"], "best": "train.lr=0.001", "near": 50.0,
                       "tuning_minutes": 12.5}  # fmt: skip
    tuned["twin"] = {"tasks": ["parity"], "observability_gap": tuned["aggregates"]["mean"], "memory_bias": None}
    view = make_view([section])
    pages = build(view)
    heads = [attrs.get("data-key") for attrs in Document(pages["index.html"]).of("th")]
    for key in ("near", "tuning_minutes", "observability_gap", "memory_bias"):
        assert heads.count(key) == 1
    row = Document(pages[f"rows/{tuned['id']}.html"]).text
    assert "Trials on parity, mean score" in row
    assert "train.lr=0.001: 61.5; train.lr=0.01: failed" in row
    assert "12.5 CPU minutes" in row
    assert "Trials on" not in Document(pages[f"rows/{bare['id']}.html"]).text


def test_the_table_marks_missing_failed_matched_and_verified() -> None:
    section = make_section(rows=3)
    poor, matched, sure = section["rows"]
    del poor["scores"]["hopper-medium"]
    poor |= {"aggregates": None, "profile": None, "missing": ["hopper-medium"], "seeds": []}
    poor["failed"] = [{"task": "hopper-medium", "seed": 2, "reason": "NonFiniteLoss: loss is nan (step 7)"}]
    matched["matched"] = "transformer"
    sure |= {"trust": "reproduced", "reproduced_cells": 27}
    view = make_view([section])
    failed = next(key for key, cell in view["cells"].items() if "hopper-medium.s2" in key and cell["row"] == poor["id"])
    view["cells"][failed] |= {"status": "failed", "score": None}
    view["cells"][failed]["record"] |= {"status": "failed", "scores": None}
    pages = build(view)
    found = Document(pages["index.html"])
    assert [row["label"] for row in ordered(section["rows"])] == ["transformer", "mamba", "gloma"]  # without: last
    for said in ("lacks hopper-medium", "1 failed", "matched to transformer"):
        assert said in found.text
    classes = [attrs.get("class") for attrs in found.of("span")]
    assert classes.count("badge ok") == 3  # twice in the legend, and the row
    assert f"rows/{poor['id']}.html#failed" in [attrs["href"] for attrs in found.of("a")]
    row = Document(pages[f"rows/{poor['id']}.html"])
    assert "NonFiniteLoss: loss is nan (step 7)" in row.text
    ids = [attrs.get("id") for _, attrs in row.elements]
    assert "failed" in ids
    assert f"record-{failed}" in ids
    assert f"#record-{failed}" in [attrs.get("href") for attrs in row.of("a")]


def test_a_cost_that_older_records_lack_has_a_column_if_a_record_has_it() -> None:
    view = make_view()
    row = view["sections"][0]["rows"][1]
    row["cost"]["state_bytes"], row["spread"]["state_bytes"] = 7_000, [7_000, 7_000]
    heads = [attrs.get("data-key") for attrs in Document(build(view)["index.html"]).of("th")]
    assert "state_bytes" in heads
