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
from suite_records import success_record, suite_records

from backbench.benchmarks.run.sinks.mlflow_view import board_metrics
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.views.export import FORMATS, export, pages_of

NO_REASON = "suite 'mine' has no normaliser: returns of its tasks share no scale, so it has no aggregates"


MIXED = "walk: rates of successes, other tasks: returns; so suite 'mine' has no aggregates"


def mixed_kinds() -> list[Record]:
    """A suite with declared returns, one task of which ends with success or failure."""
    records = []
    for record in suite_records("mine", "declared", seeds=(0, 1)):
        content = record.model_dump(mode="json")
        if record.identity.task == "walk":
            content["identity"]["environment"] = "gymnasium_robotics:AntMaze_UMaze-v4"
            content["protocol"] |= {"environment": {"continuing_task": False}, "reference": [0.0, 1.0]}
            for target in content["scores"]["last"]["targets"]:
                target |= {"returns": [1.0, 0.0, 1.0], "raw_mean": 2 / 3, "normalised_mean": 200 / 3}
            content["identity"]["data"] |= {
                "return_mean": 0.5, "return_min": 0.0, "return_max": 1.0, "return_std": 0.5, "normalised_mean": 50.0,
            }  # fmt: skip
        records.append(Record.model_validate(content))
    return records


def antmaze(seeds: tuple[int, ...] = (0,)) -> list[Record]:
    """Every task of AntMaze for two rows: one always arrives, the other in 6 of 10 episodes."""
    return [
        success_record(backbone, task, seed, arrived)
        for backbone, arrived in (("gloma", 10), ("mamba", 6))
        for task in SUITES["d4rl-antmaze"]
        for seed in seeds
    ]


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
    "rates of successes": antmaze,
    "rates and returns": mixed_kinds,
    "%BC": lambda: full_suite("identity", 40.0, variant="data.top=0.1") + full_suite("identity", 30.0),
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


@pytest.mark.parametrize(("make", "reason"), [(unscaled, NO_REASON), (mixed_kinds, MIXED)])
def test_tasks_without_a_common_scale_or_kind_have_nothing_over_tasks_in_any_format(
    make: Callable[[], list[Record]], reason: str
) -> None:
    records = make()
    (section,) = build_board(records).sections
    assert not section.complete
    assert section.data_aggregates == {}
    assert {task for row in section.rows for task in row.scores} == set(section.tasks)
    assert board_metrics(records) == {}
    pages = pages_of(records)

    (view,) = json.loads(pages["board.json"])["sections"]
    assert [(row["aggregates"], row["profile"]) for row in view["rows"]] == [(None, None)] * 2
    assert (view["data_mean"], view["data_iqm"], view["improvement"]) == (None, None, [])
    assert view["paired"] == []
    assert not any(view["pareto"].values())

    assert {line["kind"] for line in csv.DictReader(io.StringIO(pages["board.csv"]))} == {"task"}
    lines = [line.split("|")[1].strip() for line in pages["board.md"].splitlines() if line.startswith("|")]
    assert not re.search(r"mean|median|iqm|gap|better|difference", " ".join(lines).lower())
    for words in (
        'class="g-agg"',
        "Performance profile",
        "Probability of improvement,",
        "Paired difference,",
        "IQM against",
    ):
        assert words not in pages["index.html"]
    for name, row in pages.items():
        assert not name.startswith("rows/") or not re.search(r"<dt>(Mean|Median|IQM|Optimality gap)</dt>", row)
    for page in ("board.md", "index.html"):
        assert reason in re.sub(r"<[^>]+>|&#x27;|&#39;|’", lambda one: "" if one[0][0] == "<" else "'", pages[page])


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


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_rates_of_successes_have_wilsons_interval_and_its_mark_in_every_format(seeds: tuple[int, ...]) -> None:
    pages = pages_of(antmaze(seeds))
    (section,) = json.loads(pages["board.json"])["sections"]
    score = section["rows"][0]["scores"]["antmaze-umaze"]
    assert [score[name] for name in ("value", "low", "high", "over", "n", "method")] == [
        100.0, 72.2467, 100.0, "episodes", 10, "wilson",
    ]  # fmt: skip
    lines = [one for one in csv.DictReader(io.StringIO(pages["board.csv"])) if one["kind"] == "task"]
    assert {one["method"] for one in lines} == {"wilson"}
    assert "(72.2, 100.0)w" in pages["board.md"]
    assert "95 % Wilson interval of a rate of successes" in pages["board.md"]
    row = next(text for name, text in pages.items() if name.startswith("rows/gloma"))
    for page in (pages["index.html"], row):
        assert re.search(r"\[72\.2, 100\.0<?/?[^>]*>?\]?<abbr title=\"Wilson[^>]*>w</abbr>", page)
    assert "An interval marked w is Wilson’s" in pages["index.html"]
    assert ("One seed only: do not rank" in pages["index.html"]) == (len(seeds) == 1)


def test_several_seeds_of_different_rates_have_a_bootstrap_over_seeds() -> None:
    records = [success_record("gloma", "antmaze-umaze", seed, arrived) for seed, arrived in enumerate((6, 8, 10))]
    found = build_board(records).sections[0].rows[0].scores["antmaze-umaze"].interval
    assert found is not None
    assert (found.low, found.high, found.over, found.method) == (60.0, 100.0, "seeds", "bootstrap")


def test_a_row_of_one_seed_is_compared_over_starts_only_and_marked() -> None:
    pages = pages_of(full_suite("gloma", 40.0) + full_suite("mamba", 50.0, seeds=(0,)))
    (section,) = json.loads(pages["board.json"])["sections"]
    assert [(one["over"], one["decided"]) for one in section["paired"]] == [("starts", False)] * 2
    assert re.search(r"difference to gloma .*\| \+8\.0 \(\+8\.0, \+8\.0\)s", pages["board.md"])
    assert "(low, high)s: a difference to x" in pages["board.md"]
    assert "]s</text>" in pages["index.html"]


@pytest.mark.parametrize(("top", "said"), [("0.1", "10 %"), ("0.025", "2.5 %")])
def test_identity_on_the_best_steps_is_called_percent_bc_in_every_format(top: str, said: str) -> None:
    label = f"%BC {said} (identity, data.top={top})"
    records = full_suite("identity", 40.0, variant=f"data.top={top}") + full_suite("identity", 30.0)
    pages = pages_of([*records, *full_suite("mlp", 30.0, variant=f"data.top={top}")])
    (section,) = json.loads(pages["board.json"])["sections"]
    assert {row["label"]: row["control"] for row in section["rows"]} == {
        label: "%BC", "identity": "identity", f"mlp (data.top={top})": "mlp",
    }  # fmt: skip
    assert label in {one["label"] for one in csv.DictReader(io.StringIO(pages["board.csv"]))}
    assert label in pages["board.md"].replace("\\", "")
    row = next(text for name, text in pages.items() if name.startswith("rows/identity") and "data.top=" in text)
    for page in (pages["index.html"], row):
        assert f"%BC {said} (" in re.sub(r"<[^>]+>|\u200b", "", page)
        assert "control %BC" in page
        assert "clones the best steps of the data" in page


def test_no_other_override_makes_percent_bc() -> None:
    for variant in ("data.top=1", "data.top=1.0", "data.top=x", "data.top=0", "train.lr=0.1", "xdata.top=0.1"):
        (row,) = build_board([make_record("identity", variant=variant)]).sections[0].rows
        assert row.label == f"identity ({variant})"
        assert row.row.control == "identity"
