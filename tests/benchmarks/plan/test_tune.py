"""``--tune N``: the trials of every backbone, and the cells that are reported with the settings they choose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backbench.benchmarks.plan.compose import plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.plan.tune import HIGHEST, LOWEST, OPTUNA, Dimension, Tuning, tuning
from backbench.benchmarks.run.evaluate import Play
from backbench.errors import UserError
from backbench.leaderboard.record.identity import TAG

REQUEST = Request(("identity", "mlp"), "memory", tasks=("tmaze-96", "count"), seeds=(0, 1))


def starts(cell: Cell) -> set[int]:
    """Seeds of every episode that a cell plays, scored or for its curve."""
    plays = [play(cell, cell.targets) for play in (Play.of, Play.for_curve)]
    return {int(s) for play in plays for s in np.random.SeedSequence(play.seed).generate_state(play.episodes)}


@pytest.fixture(scope="module")
def four() -> Tuning:
    return tuning(REQUEST, 4)


def reported(found: Tuning) -> list[Cell]:
    return found.reported({"identity": found.settings[0], "mlp": found.settings[2]})


def test_the_default_settings_are_learning_rates(four: Tuning) -> None:
    assert four.settings == (("train.lr=0.0005",), ("train.lr=0.0013",), ("train.lr=0.0032",), ("train.lr=0.008",))
    trials = four.trials
    tasks = ["tmaze-24", "repeat-16", "copy-32", "recall-8", "parity"]
    assert [(c.backbone, c.train.lr, c.task.name) for c in trials] == [
        (name, lr, task) for name in REQUEST.backbones for lr in (0.0005, 0.0013, 0.0032, 0.008) for task in tasks
    ]
    assert {cell.eval.episodes for cell in trials} == {200}  # the suite declares it for trials


def test_trials_share_no_seed_and_no_start_with_what_is_reported(four: Tuning) -> None:
    trials, cells = four.trials, reported(four)
    assert {cell.seed for cell in trials}.isdisjoint({cell.seed for cell in cells})
    assert set().union(*map(starts, trials)).isdisjoint(set().union(*map(starts, cells)))


def test_reported_cells_are_the_untuned_ones_with_the_chosen_setting(four: Tuning) -> None:
    cells = reported(four)
    plain = [
        cell
        for name, rate in (("identity", "0.0005"), ("mlp", "0.0032"))
        for cell in plan(replace(REQUEST, backbones=(name,), overrides=(f"train.lr={rate}",)))
    ]
    assert [replace(cell, variant=cell.variant.replace(f" tune={four.tag}", "")) for cell in cells] == plain
    assert {cell.key for cell in cells}.isdisjoint({cell.key for cell in plain})


def test_a_tuned_row_can_be_named_by_its_words(four: Tuning) -> None:
    cells = [cell for cell in reported(four) if cell.backbone == "mlp"]
    assert plan(replace(REQUEST, backbones=("mlp",), overrides=(f"tune={four.tag}", "train.lr=0.0032"))) == cells


def test_the_tag_changes_with_what_is_tried_only(four: Tuning) -> None:
    other = {"seeds": (5,), "tasks": ("parity",), "backbones": ("mlp",), "overrides": ("model.n_layers=3",)}
    tags = [tuning(replace(REQUEST, **other), 4).tag]  # type: ignore[arg-type]
    assert {four.tag, *tags} == {four.tag}
    others = [tuning(REQUEST, 3).tag, tuning(replace(REQUEST, overrides=("train.lr=1e-3,2e-3,3e-3,4e-3",)), 4).tag]
    assert len({four.tag, *others}) == 3


def test_lists_are_the_settings() -> None:
    request = replace(REQUEST, overrides=("model.n_layers=3", "train.lr=1e-3,2e-3", "train.clip=0,1"))
    found = tuning(request, 4)
    assert found.settings == tuple((f"train.lr={lr}", f"train.clip={clip}") for lr in (0.001, 0.002) for clip in (0, 1))
    assert found.tag.startswith("4:train.clip+train.lr:")
    assert {cell.model.n_layers for cell in found.trials} == {3}


def test_a_matched_width_is_that_of_the_complete_suite() -> None:
    found = tuning(Request(REQUEST.backbones, "d4rl", tasks=("hopper-medium",), overrides=("match=params:mlp",)), 2)
    trials, cells = found.trials, found.reported({"identity": found.settings[0], "mlp": found.settings[1]})
    widths = {(cell.backbone, cell.model.d_model) for cell in trials}
    assert widths == {(cell.backbone, cell.model.d_model) for cell in cells}
    assert len(widths) == 2
    assert [cell.backbone for cell in cells] == ["identity", "mlp"]


def test_returns_without_a_scale_have_no_mean_to_choose_by(tmp_path: Path) -> None:
    task = "{sources: {local: {env_id: Walk-v0, data_id: mine/walk-v0}}}"
    path = tmp_path / "mine.yaml"
    path.write_text(f"source: local\ntasks: {{walk: {task}, run: {task}}}")
    with pytest.raises(UserError, match="returns of suite 'mine' share no scale"):
        tuning(Request(("mlp",), str(path)), 2)


def test_only_the_word_of_a_tuned_row_marks_one() -> None:
    with pytest.raises(UserError, match="override 'tune=4': give the word of a tuned row, or --tune N"):
        plan(replace(REQUEST, overrides=("tune=4",)))


def test_a_tuned_row_has_no_seed_of_trials(four: Tuning) -> None:
    with pytest.raises(UserError, match="1000000 is the seed of trials"):
        plan(replace(REQUEST, seeds=(1_000_000,), overrides=(f"tune={four.tag}", "train.lr=0.0032")))


def test_a_sampler_has_the_intervals_and_lists_of_the_request() -> None:
    words = ("train.lr=tag(log,interval(1e-4,1e-2))", "model.n_layers=1,2", "train.clip=interval(0.1,2)")
    found = tuning(replace(REQUEST, overrides=words), 20, OPTUNA)
    layers = Dimension("model.n_layers", ("1", "2"))
    rate, clip = Dimension("train.lr", (), 1e-4, 1e-2, True), Dimension("train.clip", (), 0.1, 2)
    assert set(found.space) == {rate, clip, layers}
    assert (rate.word, layers.word) == ("train.lr=tag(log,interval(0.0001,0.01))", "model.n_layers=1,2")
    assert (rate.override(0.00123456), layers.override("2")) == ("train.lr=0.00123", "model.n_layers=2")
    assert (found.settings, found.trials, found.request.overrides) == ((), [], ())
    assert TAG.fullmatch(found.tag)
    assert found.tag.startswith("20:model.n_layers+train.clip+train.lr:tpe")
    assert tuning(REQUEST, 20, OPTUNA).space == (Dimension("train.lr", (), LOWEST, HIGHEST, True),)


def test_each_backbone_has_trials_of_its_own_settings() -> None:
    found = tuning(REQUEST, 2, OPTUNA)
    tried = {"identity": [("train.lr=0.001",)], "mlp": [("train.lr=0.001",), ("train.lr=0.002",)]}
    cells = found.trials_of(tried)
    assert [(cell.backbone, cell.train.lr) for cell in cells if cell.task.name == found.tasks[0]] == [
        ("identity", 0.001), ("mlp", 0.001), ("mlp", 0.002),
    ]  # fmt: skip
    assert {cell.seed for cell in cells} == {1_000_000}


@pytest.mark.parametrize(
    ("sampler", "words", "said"),
    [
        ("random", (), "--sampler random: give grid or optuna"),
        ("grid", ("train.lr=interval(1e-4,1e-2)",), "an interval needs --sampler optuna"),
        ("optuna", ("train.lr=interval(1e-2,1e-4)",), "give the lower and the higher end as numbers"),
        ("optuna", ("train.lr=tag(log,interval(0,1e-4))",), "both above 0"),
        ("optuna", ("train.lr=1e-3",), "sets it; remove one of the two"),
        ("optuna", ("eval.temperature=interval(0,1)",), "eval.temperature changes what is scored"),
        ("optuna", ("model.n_layers=interval(1,4)",), "is not a whole number"),
        ("optuna", ("match=params:mlp",), "use --sampler grid"),
    ],
)
def test_mistakes_with_samplers(sampler: str, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        tuning(replace(REQUEST, overrides=words), 4, sampler)


def test_a_suite_without_a_declaration_is_tried_on_all_tasks() -> None:
    found = tuning(replace(REQUEST, suite="atari", tasks=()), 2)
    assert found.tasks == ("breakout", "qbert", "pong", "seaquest")


@pytest.mark.parametrize(
    ("count", "change", "said"),
    [
        (1, {}, "--tune 1: one setting is no choice"),
        (3, {"overrides": ("train.lr=1e-3,2e-3",)}, "the lists of train.lr make 2 settings"),
        (2, {"overrides": ("train.lr=1e-3",)}, "train.lr=1e-3 sets it; remove one of the two"),
        (2, {"overrides": ("eval.temperature=0,1",)}, "eval.temperature changes what is scored"),
        (2, {"overrides": ("data.source=embedded,minari",)}, "data.source changes what is scored"),
        (2, {"overrides": ("train.lr=1e-3,0.001",)}, "two of the settings are the same; give 2 different ones"),
        (2, {"overrides": ("train.log_every=5,10",)}, "two of the settings are the same; give 2 different ones"),
        (
            2,
            {"overrides": ("model.n_layers=1,3", "match=params:mlp")},
            "match=params sets the size, and model.n_layers",
        ),
        (2, {"seeds": (0, 1_000_000)}, "1000000 is the seed of trials"),
        (2, {"tasks": ("tmaze-97",)}, "did you mean 'tmaze-96'?"),
        (2, {"overrides": ("tune=4:train.lr:00000000", "tune=3:train.lr:00000000")}, "tune is given twice"),
        (2, {"overrides": ("tune=4:train.lr:00000000",)}, "remove the word tune=4"),
    ],
)
def test_mistakes(count: int, change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        tuning(replace(REQUEST, **change), count)  # type: ignore[arg-type]
