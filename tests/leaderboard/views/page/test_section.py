"""One section: scores first, explanations folded."""

from __future__ import annotations

from html_document import Document
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.views.page import build


def test_a_section_without_a_finished_cell_is_shown() -> None:
    section = make_section(rows=1, tasks=TASKS[:1])
    row = section["rows"][0]
    row |= {"scores": {}, "aggregates": None, "profile": None, "curves": {}, "evaluations": {}, "targets": {}}
    row |= {"cost": dict.fromkeys(row["cost"]), "missing": [TASKS[0]], "seeds": [], "cells": 0, "records": []}
    row["failed"] = [{"task": TASKS[0], "seed": 0, "reason": "RuntimeError: no"}]
    section |= {"data": {}, "data_mean": None, "data_iqm": None, "improvement": [], "reported": [], "complete": False}
    section |= {"versions": {}, "task_settings": {}}
    found = Document(build(make_view([section]))["index.html"])
    assert "1 failed" in found.text
    assert "No published scores are known for these tasks" in found.text


def test_scores_come_before_every_explanation() -> None:
    section = make_section(rows=2)
    section |= {"notes": ["a note"], "apart": ["K 20 instead of 10"], "apart_from": 0}
    found = Document(build(make_view([section]))["index.html"])
    tags = [tag if tag != "table" else f"table {attrs['class']}" for tag, attrs in found.elements]
    start = tags.index("main")
    before = found.elements[start : tags.index("table board")]
    assert [attrs.get("class") for tag, attrs in before if tag == "p"] == ["warn", None]  # the filter is in one too
    assert not [tag for tag, _ in before if tag in ("details", "svg", "ul")]


def test_every_explanation_is_folded() -> None:
    section = make_section(rows=2)
    section |= {"notes": ["a note"], "apart": ["K 20 instead of 10"], "apart_from": 0}
    found = Document(build(make_view([section]))["index.html"])
    folds = found.of("details")
    assert len(folds) == 6
    assert not [attrs for attrs in folds if "open" in attrs]


def test_what_a_sceptical_reader_needs_is_there() -> None:
    section = make_section(rows=2, seeds=(0, 1))
    section["notes"] = ["records of 2 commits: 0123456789, abcdef0123"]
    text = Document(build(make_view([section]))["index.html"]).text
    for said in (
        "do not compare with papers",
        "Small policies generated these data.",
        "self-reported",
        "95 % bootstrap intervals over seeds",
        "With few seeds they are too narrow",
        "window acting, deterministic, 10 episodes per target, evaluation seed 1000",
        "last checkpoint and the first target return, as a mean over seeds",
        "100 * (return - random) / (expert - random)",
        "ab" * 32,
        "mujoco 4.0.0",
        "records of 2 commits",
        "Costs: medians over a row's cells, measured on a CPU.",
        "No correction is made for the number of pairs.",
    ):
        assert said in text, said


def test_a_single_seed_is_warned_of() -> None:
    section = make_section(rows=1, seeds=(0,))
    assert "One seed only" not in build(make_view([section]))["index.html"]
    next(iter(section["rows"][0]["scores"].values()))["over"] = "episodes"
    text = Document(build(make_view([section]))["index.html"]).text
    assert "One seed only: do not rank these rows." in text
    assert "does not include the noise of training" in text


def test_a_separate_table_names_its_reasons_and_its_neighbour() -> None:
    sections = [make_section(rows=1), make_section("d4rl-embedded-quick-window-2", 1)]
    sections[1] |= {"apart": ["K 20 instead of 10", "another"], "apart_from": 0}
    found = Document(build(make_view(sections))["index.html"])
    assert "Why this is a separate table" in found.text
    assert "K 20 instead of 10" in found.text
    assert [attrs["href"] for attrs in found.of("a")].count(f"#{sections[0]['id']}") == 2


def test_published_scores_are_in_a_table_of_their_own() -> None:
    section = make_section(rows=1)
    note = "No difference to reported scores is formed: other data."
    section["notes"] = [note]
    found = Document(build(make_view([section]))["index.html"])
    assert "Decision Mamba" in found.text
    assert "reported" in found.text
    assert found.text.count(note) == 2  # among the notes and where the table would be
    assert "RATE (arXiv:2306.09459) Table 3 (secondary transcription)" in found.text
    section["reproduction"] = [
        {
            "row": section["rows"][0]["id"], "task": "hopper-medium", "ours": 61.0, "low": 58.0, "high": 64.0,
            "reported": 67.6, "difference": -6.6, "method": "DT", "citation": "RATE (arXiv:2306.09459)",
        }
    ]  # fmt: skip
    found = Document(build(make_view([section]))["index.html"])
    assert "Ours minus reported" in found.text
    assert "−6.6" in found.text
