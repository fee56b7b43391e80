"""Tuned rows: ranked apart, with what their trials say; and what is wrong with a setting that no trial chose."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from record_factory import make_record
from whole_record import whole_record

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.board.tuning import key_of, tunings
from backbench.leaderboard.check import missing_cells
from backbench.leaderboard.record.identity import SELECTION, trial, tuned, tuning_tag
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.views.tables import to_csv, to_view
from backbench.leaderboard.views.text import tabulate

RATES = ("0.0003", "0.001", "0.003", "0.01")
TAG, BOTH = (
    tuning_tag([f"train.lr={rate}" for rate in RATES], tasks)
    for tasks in (["hopper-medium"], ["hopper-medium", "walker2d-medium"])
)


def tried(rate: str, task: str = "hopper-medium", base: str = "", tag: str = TAG, **changes: Any) -> Record:
    variant = f"{base} train.lr={rate} trial={tag}".strip()
    changes = {"seed": SELECTION, "variant": variant, "protocol__eval_seed": 10_000 + SELECTION, **changes}
    return make_record("mamba", task, **changes)


def chosen(rate: str, base: str = "", **changes: Any) -> Record:
    variant = f"{base} train.lr={rate} tune={TAG}".strip()
    return make_record("mamba", variant=variant, **changes)


def trials(*scores: float | None, **more: Any) -> list[Record]:
    """A trial with each rate; None where it failed."""
    return [
        tried(rate, **more, **({"failed": "loss is nan"} if score is None else {"scores": (score,) * 3}))
        for rate, score in zip(RATES, scores, strict=True)
    ]


def test_the_best_setting_and_how_many_come_near_it() -> None:
    records = [*trials(10, 50, 60, None, tag=BOTH), *trials(30, 40, 32, 90, task="walker2d-medium", tag=BOTH)]
    (found,) = tunings(records).values()
    scores = {"train.lr=0.0003": 20.0, "train.lr=0.001": 45.0, "train.lr=0.003": 46.0, "train.lr=0.01": None}
    assert dict(found.scores) == pytest.approx(scores)
    assert found.tasks == ("hopper-medium", "walker2d-medium")
    assert (found.best, found.near, found.complete) == ("train.lr=0.003", 0.5, True)
    costs = [record.cost.cpu_seconds for record in records if record.cost is not None]
    assert (len(costs), found.cpu_seconds) == (7, pytest.approx(sum(costs)))


def test_equal_settings_are_chosen_by_name_and_none_if_all_failed() -> None:
    (equal,) = tunings(trials(7, 7, 7, 7)).values()
    (none,) = tunings(trials(None, None, None, None)).values()
    assert (equal.best, equal.near) == ("train.lr=0.0003", 1.0)
    assert (none.best, none.near) == (None, 0.0)


def test_a_setting_without_a_task_that_others_have_does_not_count() -> None:
    other = trials(1, 2, 3, 4, task="walker2d-medium", tag=BOTH)[:-1]
    (found,) = tunings([*trials(1, 2, 3, 4, tag=BOTH), *other]).values()
    assert list(found.scores) == [f"train.lr={rate}" for rate in RATES[:3]]
    assert not found.complete


def test_trials_belong_to_the_rows_with_their_other_settings() -> None:
    plain, deep = trials(1, 2, 3, 4), trials(4, 3, 2, 1, base="model.n_layers=3")
    found = tunings(plain + deep)
    assert found[key_of(chosen("0.01"))].best == "train.lr=0.01"
    assert found[key_of(chosen("0.0003", "model.n_layers=3"))].best == "train.lr=0.0003"


def test_tuned_rows_stand_apart_and_trials_nowhere() -> None:
    records = [*trials(10, 50, 60, 20), chosen("0.003"), make_record("mamba")]
    board = build_board(records)
    first, second = sorted(board.sections, key=lambda one: one.setting.tuning)
    assert [row.label for row in (*first.rows, *second.rows)] == ["mamba", "mamba (train.lr=0.003)"]
    assert [len(row.records) for row in (*first.rows, *second.rows)] == [1, 1]
    assert second.setting.title.endswith(", tuned: 4 settings of train.lr")
    assert (first.rows[0].tuning, second.rows[0].tuning) == (None, tunings(records)[key_of(records[4])])
    apart = [section.apart for section in board.sections if section.apart]
    assert [f"tuning {one!r}" in " ".join(map(str, apart)) for one in ("", TAG)].count(True) >= 1
    assert all("trial" not in line for line in missing_cells(records))


def test_every_view_says_what_tuning_chose_and_cost() -> None:
    records = [*trials(10, 58, 60, None), chosen("0.003")]
    board = build_board(records)
    view = to_view(board, records)
    (row,) = view["sections"][0]["rows"]
    assert (row["tuning"]["best"], row["tuning"]["near"]) == ("train.lr=0.003", 50.0)
    assert row["tuning"]["trials"][3] == {"setting": "train.lr=0.01", "score": None}
    assert view["records"] == 5
    first = next(csv.DictReader(io.StringIO(to_csv(view))))
    assert (first["tuning"], first["near"], first["memory_bias"]) == (TAG, "50.0", "")
    (table,) = tabulate(board)
    lines = {line[0].main: line[2].main for block in table.blocks for line in block}
    assert lines["settings within 5 points of the best, %"] == "50"
    assert "tuning, CPU minutes" in lines


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (trials(10, 50, 60, 20)[:3], "said to be tuned, and not all 4 trials are there; add them"),
        (trials(10, 50, 60, 20, seed=0), "said to be tuned, and not all 4 trials are there; add them"),
        (trials(10, 50, 60, 20, protocol__eval_seed=10_000), "and not all 4 trials are there; add them"),
        (trials(10, 50, 60, 20, task="walker2d-medium"), "and not all 4 trials are there; add them"),
        ([*trials(10, 50, 60, 20)[1:], tried("77", scores=(1,) * 3)], "and not all 4 trials are there; add them"),
        ([], "said to be tuned, and not all 4 trials are there; add them"),
        (trials(10, 70, 60, 20), "said to be tuned to train.lr=0.003, and its trials chose train.lr=0.001; remove it"),
    ],
)
def test_a_setting_that_no_trial_chose_is_said_and_refused(records: list[Record], said: str) -> None:
    claim = chosen("0.003")
    assert any(said in line for line in impossible_together([*records, claim]))
    (section,) = build_board([*records, claim]).sections
    assert any("trials" in note for note in section.notes)


def test_trials_of_another_version_choose_nothing_here() -> None:
    ours, other = ({"backbench": version, "torch": "2.9.0"} for version in ("0.1.0", "9.9.9"))
    records = [*trials(10, 50, 60, 20, provenance__packages=ours), *trials(90, 5, 6, 2, provenance__packages=other)]
    claim = chosen("0.003", provenance__packages=ours)
    assert tunings(records)[key_of(claim)].best == "train.lr=0.003"
    assert not any("tuned" in line for line in impossible_together([*records, claim]))


def test_a_tuned_record_has_no_seed_of_trials() -> None:
    records = [*trials(10, 50, 60, 20), chosen("0.003", seed=SELECTION)]
    assert any("has the seed of trials, 1000000; remove it" in line for line in impossible_together(records))


@pytest.mark.parametrize(
    "word", ["tune=4", "tune=x:train.lr:0a1b2c3d", "trial=x", "trial=4:train.lr:xyz", "tune=4::0a1b2c3d"]
)
def test_an_odd_word_marks_nothing(word: str) -> None:
    assert tuned(word) is None
    assert trial(word) is None
    (section,) = build_board([make_record(variant=word)]).sections
    assert section.setting.tuning == ""


def test_the_words_of_a_variant() -> None:
    variant = f"model.n_layers=3 train.lr=0.01 tune={TAG}"
    assert (tuned(variant), trial(variant)) == (TAG, None)
    assert trial("train.lr=0.01 trial=2:train.lr:00000000") == "2:train.lr:00000000"
    assert whole_record(config=[("variant", f"tune={TAG}")]).key != whole_record().key
