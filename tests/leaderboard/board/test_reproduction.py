"""Published scores: beside ours where task and scale agree, subtracted only where source and protocol do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from record_factory import full_suite, make_record

from backbench.leaderboard.board.board import Section, build_board
from backbench.leaderboard.board.reproduction import reported, reproduction, tabulated, why_none
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.views.tables import to_view
from backbench.leaderboard.views.text import to_markdown

PAPER = {"source": "d4rl", "preset": "paper"}


def section(*records: Record) -> Section:
    (only,) = build_board(records).sections
    return only


def paper(backbone: str, task: str, *, environment: str = "Hopper-v4", **changes: Any) -> Record:
    return make_record(backbone, task, identity__environment=environment, **{**PAPER, **changes})


def game(backbone: str, task: str = "pong", score: float = 100.0, **changes: Any) -> Record:
    """A record of a game under the gamer's scale; raw 15 is 100 points in Pong."""
    content = make_record(backbone, "hopper-medium").model_dump(mode="json")
    raw = -21.0 + 36.0 * score / 100
    targets = [
        {"target": target, "returns": [raw] * 3, "lengths": [9] * 3, "raw_mean": raw, "normalised_mean": score}
        for target in (3600.0, 1800.0)
    ]
    content["identity"] |= {"suite": "atari", "task": task, "environment": "ALE/Pong-v5", "source": "dqn-replay",
                            "preset": "paper", **changes}  # fmt: skip
    content["identity"]["data"] |= {"return_mean": 15.0, "return_min": -21.0, "return_max": 21.0,
                                    "normalised_mean": 100.0, "rewards": "clipped"}  # fmt: skip
    content["protocol"]["normaliser"] = "dt-gamer"
    content["scores"] = {"last": {"step": 1, "targets": targets}, "best": None}
    content["curve"]["evaluations"] = []
    return Record.model_validate(content)


def test_published_scores_are_shown_where_tasks_and_scale_agree() -> None:
    ours = section(make_record("gloma"))
    assert {one.task for one in reported(ours)} == {"hopper-medium"}
    assert ("RATE", 77.4) in {(one.method, one.score) for one in reported(ours)}
    assert {one.task for one in reported(section(game("gloma")))} == {"pong"}
    assert reported(section(make_record("gloma", identity__suite="mine"))) == []
    raw = replace(ours, setting=replace(ours.setting, normaliser="none"))
    assert reported(raw) == []


def test_generated_data_give_no_difference() -> None:
    ours = section(*full_suite("transformer", 50.0, preset="paper"))
    assert reproduction(ours) == []
    assert "these data were made here" in str(why_none(ours, []))


def test_differences_are_ours_minus_reported() -> None:
    records = [paper("transformer", "hopper-medium", seed=seed, scores=[60.0 + 2 * seed] * 3) for seed in (0, 1, 2)]
    records += [paper("mamba", "hopper-medium-replay"), paper("mlp", "hopper-medium"), paper("gloma", "hopper-medium")]
    ours = section(*records)
    found = reproduction(ours)
    assert [(ours.rows[one.row].label, one.reported.task, one.reported.method) for one in found] == [
        ("gloma", "hopper-medium", "MambaDM"),
        ("mamba", "hopper-medium-replay", "DMamba"),
        ("transformer", "hopper-medium", "DT"),
    ]
    assert (found[2].ours, found[2].low, found[2].high) == pytest.approx((62.0, 60.0, 64.0))
    assert found[2].difference == pytest.approx(62.0 - 67.6)
    assert found[0].low is None  # one seed: its interval is over episodes
    assert why_none(ours, found) is None
    view = to_view(build_board(records), records)["sections"][0]
    assert view["reproduction"][2] == {
        "row": view["rows"][-1]["id"], "task": "hopper-medium", "ours": 62.0, "low": 60.0, "high": 64.0,
        "reported": 67.6, "difference": -5.6, "method": "DT", "citation": found[2].reported.citation,
    }  # fmt: skip
    assert {one["method"] for one in view["reported"]} >= {"DT", "CQL", "MambaDM"}
    text = to_markdown(build_board(records))
    assert "transformer, hopper-medium: 62.0 (60.0, 64.0) - 67.6 (DT) = -5.6." in text
    assert "re-implementation" in text


@pytest.mark.parametrize(
    "other", [{"preset": "quick"}, {"source": "minari"}, {"environment": "Hopper-v5"}, {"variant": "train.lr=0.01"}]
)
def test_another_protocol_gives_no_difference(other: dict[str, Any]) -> None:
    ours = section(paper("transformer", "hopper-medium", **other))
    assert reproduction(ours) == []
    assert "is not the published protocol" in str(why_none(ours, []))


def test_atari_differences_need_published_data_and_preset() -> None:
    (found,) = reproduction(section(game("gloma", score=100.0)))
    assert (found.reported.method, found.reported.score) == ("MambaDM", 110.8)
    assert found.difference == pytest.approx(-10.8)
    assert reproduction(section(game("gloma", source="embedded"))) == []
    assert reproduction(section(game("gloma", preset="quick"))) == []


def test_reported_scores_are_in_no_aggregate() -> None:
    ours = section(*full_suite("transformer", 50.0))
    (row,) = ours.rows
    assert row.mean is not None
    assert row.mean.value == pytest.approx(56.0)
    methods, lines, notes = tabulated(ours)
    assert len(methods) == 14
    assert [line[0] for line in lines] == [f"{task}, reported" for task in SUITES["d4rl"]]
    assert "in no aggregate with ours" in notes[0]
    assert lines[3][1 + methods.index("DT")] == "67.6"


def test_decision_mamba_s_own_preset_is_its_published_protocol_and_nobody_else_s() -> None:
    own = {"preset": "paper-decision-mamba"}
    ours = section(*(paper(name, "hopper-medium", **own) for name in ("mamba", "transformer", "gloma")))
    assert [one.reported.method for one in reproduction(ours)] == ["DMamba"]
