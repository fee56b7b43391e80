"""Boards from synthetic records: what is compared, what is set apart, and what is said about it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from record_factory import full_suite, make_record

from backbench.leaderboard.board.board import Board, Row, build_board
from backbench.leaderboard.board.notes import notes_of
from backbench.leaderboard.record.suites import SUITES


def row(board: Board, label: str, section: int = 0) -> Row:
    return next(row for row in board.sections[section].rows if row.label == label)


def test_a_complete_suite_has_scores_costs_and_aggregates() -> None:
    # Scores are 40 + task index + 2 * seed: task means 42 .. 50.
    board = build_board(full_suite("gloma", 40.0) + full_suite("mamba", 60.0))
    assert len(board.sections) == 1
    section = board.sections[0]
    assert section.tasks == SUITES["d4rl"]
    assert [one.label for one in section.rows] == ["gloma", "mamba"]
    gloma = row(board, "gloma")
    assert gloma.mean is not None
    assert gloma.iqm is not None
    assert gloma.mean.value == pytest.approx(46.0)
    assert gloma.iqm.value == pytest.approx(46.0)  # symmetric
    assert gloma.mean.interval is not None
    assert (gloma.mean.interval.over, gloma.mean.interval.n) == ("seeds", 3)
    score = gloma.scores["halfcheetah-medium"]
    assert (score.value, score.seeds) == (pytest.approx(42.0), (0, 1, 2))
    assert score.values == pytest.approx((40.0, 42.0, 44.0))
    assert score.data_ratio == pytest.approx(42.0 / 44.0)
    assert section.data_aggregates == pytest.approx({"mean": 44.0, "iqm": 44.0})
    assert gloma.cost == {
        "parameters": 27_000, "parameters_backbone": 25_000, "flops_per_token": 5e4, "train_tokens_per_s": 41_000.0,
        "decision_p50_ms": 1.5, "decision_p95_ms": 2.5, "peak_memory_mb": 400.0, "wall_seconds": 82.0,
    }  # fmt: skip
    assert gloma.aggregates["median"].value == pytest.approx(46.0)
    assert gloma.aggregates["optimality_gap"].value == pytest.approx(0.54)
    assert gloma.seeds == (0, 1, 2)
    assert gloma.matrix[1] == pytest.approx(range(42, 51))
    assert section.notes == ()
    assert section.apart == ()


def test_order_of_records_does_not_matter() -> None:
    records = full_suite("gloma", 40.0) + full_suite("mamba", 60.0, seeds=(0,))
    records += [make_record(seed=5, identity__data__sha256="12" * 32), make_record(failed="x", identity__data=None)]
    board = build_board(records)
    random.Random(0).shuffle(records)
    assert build_board(records) == board


def test_no_records_make_an_empty_board() -> None:
    assert build_board([]) == Board(())


def test_a_missing_task_means_no_aggregate() -> None:
    board = build_board([one for one in full_suite("gloma", 40.0) if one.identity.task != "hopper-medium"])
    gloma = row(board, "gloma")
    assert gloma.mean is gloma.iqm is None
    assert (gloma.aggregates, gloma.matrix, gloma.seeds) == ({}, (), ())
    assert gloma.missing == ("hopper-medium",)
    assert board.sections[0].data_aggregates == {}
    assert board.sections[0].notes == ("gloma: no aggregate, it lacks 1 of 9 tasks: hopper-medium",)


def test_seeds_that_lack_a_task_are_left_out_of_the_aggregate() -> None:
    records = [*full_suite("gloma", 40.0), make_record("gloma", "hopper-medium", 7, scores=[100.0] * 3)]
    board = build_board(records)
    gloma = row(board, "gloma")
    assert gloma.mean is not None
    assert gloma.mean.value == pytest.approx(46.0)
    assert gloma.scores["hopper-medium"].seeds == (0, 1, 2, 7)
    assert board.sections[0].notes == ("gloma: seeds 7 lack some tasks and are not in the aggregate",)


def test_rows_without_a_common_seed_have_no_aggregate() -> None:
    records = [make_record("gloma", task, seed) for seed, task in enumerate(SUITES["d4rl"])]
    gloma = row(build_board(records), "gloma")
    assert (gloma.aggregates, gloma.matrix) == ({}, ())


def test_the_interval_of_one_seed_is_over_its_episodes() -> None:
    gloma = row(build_board(full_suite("gloma", 40.0, seeds=(0,))), "gloma")
    assert gloma.mean is not None
    assert gloma.mean.interval is not None
    assert gloma.mean.interval.over == "episodes"
    found = gloma.scores["halfcheetah-medium"].interval
    assert found is not None
    assert found.over == "episodes"
    assert 37.0 - 1e-9 <= found.low < 40.0 < found.high <= 43.0 + 1e-9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"identity__data__sha256": "12" * 32}, "data_sha256 of hopper-medium: 12121212 instead of"),
        ({"identity__environment": "Hopper-v4"}, "environment of hopper-medium: Hopper-v4 instead of Hopper-v5"),
        ({"protocol__context": 8}, "context of hopper-medium: 8 instead of 20"),
        ({"protocol__max_steps": 2000}, "max_steps of hopper-medium: 2000 instead of 1000"),
        ({"protocol__acting": "recurrent"}, "acting 'recurrent' instead of 'window'"),
        ({"protocol__sampling": "sample"}, "sampling 'sample' instead of 'greedy'"),
        (
            {"provenance__config__model": {"tokens": "s"}},
            "layout of hopper-medium: data.windows=uniform model.timestep=s",
        ),
        ({"provenance__config__data": {"windows": "episode"}}, "layout of hopper-medium: data.windows=episode"),
        ({"protocol__timestep": "current"}, "timestep 'current' instead of 'first'"),
        ({"protocol__eval_seed": 1}, "eval_seed 1 instead of 10000"),
        ({"preset": "paper"}, "preset 'paper' instead of 'quick'"),
        ({"source": "minari"}, "source 'minari' instead of 'embedded'"),
        ({"scores": [1.0]}, "episodes 1 instead of 3"),
    ],
)
def test_other_settings_are_not_compared(changes: dict[str, Any], said: str) -> None:
    board = build_board([*full_suite("gloma", 40.0), make_record("mamba", **changes)])
    assert [len(section.rows) for section in board.sections] == [1, 1]
    assert said in board.sections[1].apart[0]
    assert len(board.sections[1].apart) == 1


def test_targets_are_part_of_the_setting() -> None:
    other = make_record("mamba").model_dump()
    for index, target in enumerate((3000.0, 1500.0)):
        other["scores"]["last"]["targets"][index]["target"] = target
    other["protocol"]["targets"] = (3000.0, 1500.0)
    board = build_board([*full_suite("gloma", 40.0), type(make_record()).model_validate(other)])
    assert board.sections[1].apart == ("targets of hopper-medium: 3000, 1500 instead of 3600, 1800",)


def test_regenerated_data_split_a_row_into_complete_suites() -> None:
    old = full_suite("gloma", 40.0) + full_suite("mamba", 50.0)
    new = full_suite("gloma", 60.0, seeds=(0, 1), identity__data__sha256="12" * 32)
    board = build_board(new + old)
    assert [[row.label for row in section.rows] for section in board.sections] == [["gloma", "mamba"], ["gloma"]]
    assert all(row.mean is not None for section in board.sections for row in section.rows)
    assert {one.data_sha256 for one in board.sections[1].task_settings.values()} == {"12" * 32}
    assert "and 8 more tasks" in board.sections[1].apart[0]


def test_a_failed_cell_without_data_joins_its_row() -> None:
    failed = make_record("gloma", "hopper-medium", 9, failed="no space", identity__data=None)
    board = build_board([failed, *full_suite("gloma", 40.0)])
    assert len(board.sections) == 1
    assert row(board, "gloma").failed == 1
    assert "Failed: gloma, hopper-medium, seed 9: NonFiniteLoss: no space (step 7)" in notes_of(board.sections[0], [])


def test_a_row_of_failed_cells_has_no_scores() -> None:
    section = build_board([make_record("gloma", failed="x", identity__data=None)]).sections[0]
    assert section.rows[0].scores == {}
    assert section.rows[0].cost == {}
    assert section.data == {}


def test_variants_and_options_are_rows_of_their_own() -> None:
    board = build_board(
        [
            make_record("gloma"),
            make_record("gloma", variant="train.lr=0.01"),
            make_record("mamba"),
            make_record("mamba", identity__options={"n_heads": 8}),
        ]
    )
    labels = [one.label for one in board.sections[0].rows]
    assert labels[:2] == ["gloma", "gloma (train.lr=0.01)"]
    assert len(set(labels)) == 4
    assert all(label.startswith("mamba #") for label in labels[2:])


def test_the_earlier_of_two_counts_whatever_it_scored() -> None:
    early = make_record("gloma", scores=[1.0] * 3, provenance__started="2026-01-01T00:00:00Z")
    late = make_record("gloma", scores=[90.0] * 3, provenance__started="2026-02-01T00:00:00Z")
    board = build_board([late, early])
    assert row(board, "gloma").scores["hopper-medium"].value == pytest.approx(1.0)
    assert any("is there twice" in note for note in board.sections[0].notes)


def test_differences_of_machine_batch_and_commit_are_noted() -> None:
    board = build_board(
        [
            make_record("gloma"),
            make_record(
                "mamba",
                provenance__hardware={"cpu": "Other CPU", "cores": 1, "memory_mb": 1.0},
                provenance__git_commit="f" * 40,
                provenance__git_dirty=True,
                cost__decision={"p50_ms": 1.0, "p95_ms": 1.0, "batch": 1},
            ),
        ]
    )
    text = " ".join(board.sections[0].notes)
    for words in ("different machines", "different batches: 1, 10", "2 commits", "1 of 2 records come from code"):
        assert words in text


def test_a_data_score_below_zero_gives_no_ratio() -> None:
    board = build_board([make_record("gloma", data_score=-1.0)])
    assert row(board, "gloma").scores["hopper-medium"].data_ratio is None


def test_an_action_head_does_not_split_a_row() -> None:
    known = make_record("gloma", seed=1, protocol__head="tanh")
    (section,) = build_board([make_record("gloma"), known, make_record("mamba")]).sections
    assert [one.label for one in section.rows] == ["gloma", "mamba"]
    assert section.rows[0].scores["hopper-medium"].seeds == (0, 1)


def test_an_unknown_suite_has_no_aggregates() -> None:
    section = build_board([make_record(identity__suite="mine")]).sections[0]
    assert not section.complete
    assert "is not known here" in section.notes[0]
    complete = build_board([make_record(identity__suite="mine")], suites={"mine": ("hopper-medium",)})
    assert row(complete, "transformer").mean is not None


def packages(**versions: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): version for name, version in versions.items()}
    return {"provenance__packages": {"backbench": "0.1.0", "torch": "2.9.0", "numpy": "2.3.0"} | names}


def test_other_versions_of_the_simulators_are_not_compared() -> None:
    old = full_suite("gloma", 40.0, seeds=(0,), **packages(gymnasium="1.1.0", mujoco="3.2.0"))
    new = full_suite("mamba", 50.0, seeds=(0,), **packages(gymnasium="1.1.0", mujoco="3.3.0"))[:8]
    silent = [make_record("mlp", **packages(gymnasium="1.1.0"))]
    board = build_board(silent + new + old)
    assert [[one.label for one in section.rows] for section in board.sections] == [["gloma"], ["mamba"], ["mlp"]]
    assert board.sections[0].setting.versions == (("backbench", "0.1.0"), ("gymnasium", "1.1.0"), ("mujoco", "3.2.0"))
    assert board.sections[1].apart == ("mujoco 3.3.0 instead of 3.2.0",)
    assert board.sections[2].apart == ("mujoco unknown instead of 3.2.0",)


def training(**settings: Any) -> dict[str, Any]:
    return {"provenance__config": {"train": {"lr": 1e-3, "steps": 2000, "log_every": 10} | settings}}


def test_other_settings_of_training_are_another_experiment_unless_the_row_says_so() -> None:
    usual = full_suite("gloma", 40.0, **training())
    longer = full_suite("mamba", 50.0, seeds=(0,), **training(steps=18_000, lr=0.5))
    board = build_board(longer + usual)
    assert [[one.label for one in section.rows] for section in board.sections] == [["gloma"], ["mamba"]]
    said = ("train.lr of halfcheetah-medium-expert and 8 more tasks: 0.5 instead of 0.001",
            "train.steps of halfcheetah-medium-expert and 8 more tasks: 18000 instead of 2000")  # fmt: skip
    assert board.sections[1].apart == said
    named = full_suite("mamba", 50.0, variant="train.steps=18000 train.lr=0.5", **training(steps=18_000, lr=0.5))
    half = full_suite("mlp", 50.0, variant="train.steps=18000", **training(steps=18_000, lr=0.5))
    logged = full_suite("identity", 30.0, **training(log_every=1))
    assert len(build_board(usual + named + logged).sections) == 1
    board = build_board([*half, *usual, *named])
    assert [[one.row.backbone for one in section.rows] for section in board.sections] == [["gloma", "mamba"], ["mlp"]]


def test_rows_that_lack_the_same_tasks_share_a_note() -> None:
    (section,) = build_board([make_record("gloma"), make_record("mamba"), *full_suite("mlp", 40.0)[3:]]).sections
    lacking = ", ".join(task for task in SUITES["d4rl"] if task != "hopper-medium")
    assert section.notes[:2] == (
        f"gloma, mamba: no aggregate, they lack 8 of 9 tasks: {lacking}",
        f"mlp: no aggregate, it lacks 1 of 9 tasks: {full_suite('mlp', 40.0)[0].identity.task}",
    )


def test_aggregates_over_different_seeds_are_noted() -> None:
    records = [*full_suite("gloma", 40.0), *full_suite("mamba", 40.0), *full_suite("mlp", 41.0, seeds=(5, 6, 7))]
    (section,) = build_board(records).sections
    assert "aggregates are over different seeds (0, 1, 2: gloma, mamba; 5, 6, 7: mlp)" in section.notes
    (section,) = build_board(records[:-27]).sections
    assert not any("different seeds" in note for note in section.notes)


def test_a_row_of_two_versions_has_no_aggregate() -> None:
    """Half of the tasks under one version and half under another are not a whole suite."""
    halves = [
        *full_suite("gloma", 40.0, **packages(gymnasium="1.1.0", mujoco="3.2.0"))[:15],
        *full_suite("gloma", 40.0, **packages(gymnasium="1.1.0", mujoco="3.3.0"))[15:],
    ]
    board = build_board(halves)
    assert [len(section.rows[0].scores) for section in board.sections] == [5, 4]
    assert all(section.rows[0].mean is None for section in board.sections)


@pytest.mark.parametrize(
    ("environment", "ignored", "minded"),
    [
        ("Hopper-v5", "ale-py", "mujoco"),
        ("Hopper-v5", "torch", "backbench"),
        ("Hopper-v5", "gymnasium-robotics", "gymnasium"),
        ("ALE/Pong-v5", "mujoco", "ale-py"),
        ("gymnasium_robotics:AntMaze_UMaze-v4", "torch", "gymnasium-robotics"),
    ],
)
def test_only_versions_of_backbench_and_the_simulators_split_tables(
    environment: str, ignored: str, minded: str
) -> None:
    def sections(name: str) -> int:
        records = []
        for backbone, version in (("gloma", "1"), ("mamba", "2")):
            content = make_record(backbone).model_dump(mode="json")
            content["identity"]["environment"] = environment
            content["provenance"]["packages"][name] = version
            records.append(type(make_record()).model_validate(content))
        return len(build_board(records).sections)

    assert (sections(ignored), sections(minded)) == (1, 2)


def test_tasks_of_different_simulators_share_a_table() -> None:
    """As long as no package is there in two versions."""
    one = own("one", **packages(gymnasium="1", mujoco="3"))
    robots = own("two", identity__environment="gymnasium_robotics:X-v1",
                 **packages(gymnasium="1", mujoco="3", gymnasium_robotics="1.4"))  # fmt: skip
    (section,) = build_board([one, robots]).sections
    played_by = (("gymnasium", "1"), ("gymnasium-robotics", "1.4"), ("mujoco", "3"))
    assert section.setting.versions == (("backbench", "0.1.0"), *played_by)
    assert section.rows[0].mean is not None
    late = own("two", identity__environment="gymnasium_robotics:X-v1",
               **packages(gymnasium="2", mujoco="3", gymnasium_robotics="1.4"))  # fmt: skip
    assert len(build_board([one, late]).sections) == 2


def test_other_versions_of_torch_and_numpy_are_noted() -> None:
    board = build_board(
        [make_record("gloma", **packages(numpy="2.4.0")), make_record("mamba", **packages(torch="2.8.0"))]
    )
    (section,) = board.sections
    assert section.notes[-2:] == (
        "records of 2 versions of torch: 2.8.0, 2.9.0",
        "records of 2 versions of numpy: 2.3.0, 2.4.0",
    )


def test_rows_say_what_they_were_matched_to() -> None:
    matched = make_record("mamba", variant="match=params:transformer model.d_model=96 train.lr=0.01")
    bare = make_record("gloma", variant="match=params:my_package.ema:EMA")
    rows = build_board([matched, bare, make_record("mamba")]).sections[0].rows
    assert [(one.label, one.row.matched) for one in rows] == [
        ("gloma (matched to my_package.ema:EMA)", "my_package.ema:EMA"),
        ("mamba", None),
        ("mamba (matched to transformer, model.d_model=96 train.lr=0.01)", "transformer"),
    ]


def test_raw_returns_have_no_aggregates() -> None:
    raw = own("one", identity__suite_tasks=["one"], protocol__normaliser="none", protocol__reference=None,
              identity__data__normalised_mean=15.0, scores__last__targets=[
                  {"target": target, "returns": [12.0, 16.0, 17.0], "lengths": [5, 5, 5], "raw_mean": 15.0,
                   "normalised_mean": 15.0} for target in (3600.0, 1800.0)])  # fmt: skip
    board = build_board([raw])
    assert row(board, "transformer").aggregates == {}
    assert row(board, "transformer").matrix == ()
    assert "has no normaliser: returns of its tasks share no scale" in " ".join(board.sections[0].notes)


def own(task: str, seed: int = 0, **changes: Any) -> Any:
    """A record of a suite of a user's own, of two tasks, whose returns 10 and 20 score 0 and 100."""
    reference = {"protocol__normaliser": "declared", "protocol__reference": [10.0, 20.0]}
    suite = {"identity__suite": "mine", "identity__suite_tasks": ["one", "two"]}
    raw = {
        "identity__data__return_mean": 15.0, "identity__data__return_min": 10.0, "identity__data__return_max": 20.0,
        "identity__data__normalised_mean": 50.0,
        "scores__last__targets": [
            {"target": target, "returns": [12.0, 16.0, 17.0], "lengths": [5, 5, 5], "raw_mean": 15.0,
             "normalised_mean": 50.0}
            for target in (3600.0, 1800.0)
        ],
        "scores__best": None, "curve__evaluations": [],
    }  # fmt: skip
    record = make_record(task="hopper-medium", seed=seed)
    content = record.model_dump(mode="json")
    content["identity"]["task"] = task
    for name, value in {**raw, **suite, **reference, **changes}.items():
        inner = content
        *path, last = name.split("__")
        for part in path:
            inner = inner[part]
        inner[last] = value
    content["key"] = f"{task}-{seed}-{len(changes)}"
    return type(record).model_validate(content)


def test_a_users_suite_has_aggregates() -> None:
    board = build_board([own("one"), own("two")])
    (section,) = board.sections
    assert section.complete
    assert section.tasks == ("one", "two")
    mean = row(board, "transformer").mean
    assert mean is not None
    assert mean.value == pytest.approx(50.0)
    assert section.data == {"one": 50.0, "two": 50.0}
    (part,) = build_board([own("one")]).sections
    assert row(build_board([own("one")]), "transformer").mean is None
    assert "it lacks 1 of 2 tasks: two" in part.notes[0]


def test_other_references_or_another_list_of_tasks_are_not_compared() -> None:
    changed = own(
        "one", 1, protocol__reference=[10.0, 30.0], identity__data__normalised_mean=25.0,
        scores__last__targets=[
            {"target": t, "returns": [12.0, 16.0, 17.0], "lengths": [5] * 3, "raw_mean": 15.0, "normalised_mean": 25.0}
            for t in (3600.0, 1800.0)
        ],
    )  # fmt: skip
    board = build_board([own("one"), own("two"), changed])
    assert len(board.sections) == 2
    assert "reference of one: 10, 30 instead of 10, 20" in board.sections[1].apart[0]
    longer = own("one", 1, identity__suite_tasks=["one", "two", "three"])
    assert len(build_board([own("one"), longer]).sections) == 2


def test_a_record_cannot_change_the_tasks_of_a_known_suite() -> None:
    (section,) = build_board([make_record(identity__suite_tasks=["hopper-medium"])]).sections
    assert section.tasks == SUITES["d4rl"]
    assert section.rows[0].mean is None


@pytest.mark.parametrize(("preset", "rows"), [("paper-decision-mamba", 1), ("paper", 2)])
def test_a_preset_with_a_width_for_each_task_makes_one_row(preset: str, rows: int) -> None:
    widths = {"hopper-medium": 256, "walker2d-medium": 128}
    made = [make_record("mamba", task, preset=preset, identity__model__d_model=d) for task, d in widths.items()]
    (section,) = build_board(made).sections
    assert len(section.rows) == rows


def test_another_start_of_the_weights_is_another_row() -> None:
    one, two = make_record("gloma"), make_record("gloma", seed=1, identity__model__extra={"init": "torch"})
    (section,) = build_board([one, two]).sections
    assert len({row.label for row in section.rows}) == 2
    usual = make_record("gloma", seed=1, identity__model__extra={"timestep": "step", "embedding": "norm"})
    (section,) = build_board([one, usual]).sections
    assert len(section.rows) == 1


def test_a_setting_of_training_that_older_records_lack_has_its_old_value() -> None:
    older, same, other = (
        make_record(name, provenance__config__train={"lr": 0.1, **train})
        for name, train in (("gloma", {}), ("mlp", {"decay": "matrices"}), ("mamba", {"decay": "all"}))
    )
    board = build_board([older, same, other])
    assert sorted(len(section.rows) for section in board.sections) == [1, 2]
    assert [section.apart for section in board.sections if section.apart] == [
        ('train.decay of hopper-medium: "all" instead of "matrices"',)
    ]
