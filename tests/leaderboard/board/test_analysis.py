"""Profiles, comparisons of pairs and fronts of a section, from synthetic records."""

from __future__ import annotations

import json

import pytest
from record_factory import full_suite, make_record

from backbench.leaderboard.board.analysis import courses, decided_tasks, fronts, improvements, profiles, undecided_costs
from backbench.leaderboard.board.board import Section, build_board
from backbench.leaderboard.record.schema import Record


def section(*records: Record) -> Section:
    (only,) = build_board(records).sections
    return only


def cost(record: Record, **changes: float) -> Record:
    content = record.model_dump(mode="json")
    content["cost"] |= changes
    return Record.model_validate(content)


def test_profiles_share_their_range() -> None:
    found = profiles(section(*full_suite("gloma", -20.0, seeds=(0, 1)), *full_suite("mamba", 120.0, seeds=(0,))))
    assert found[0].tau == found[1].tau
    assert (len(found[0].tau), found[0].tau[0], found[0].tau[-1]) == (51, -20.0, 128.0)
    assert (found[1].share[0], found[1].share[-1]) == (1.0, 0.0)
    assert found[1].low is found[1].high is None
    assert found[0].low is not None
    assert found[0].high is not None
    assert all(a <= b <= c for a, b, c in zip(found[0].low, found[0].share, found[0].high, strict=True))
    # gloma's 18 runs are -20 .. -10; tau 0 is above all of them.
    assert next(share for tau, share in zip(found[0].tau, found[0].share, strict=True) if tau >= 0) == 0.0


def test_every_ordered_pair_is_compared() -> None:
    found = improvements(section(*full_suite("gloma", 40.0), *full_suite("mamba", 41.0), *full_suite("mlp", 9.0)))
    assert [(one.x, one.y) for one in found] == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    # Seeds of a task score s, s + 2, s + 4 and one point more: of nine pairs gloma wins 3.
    assert found[0].probability == pytest.approx(3 / 9)
    assert found[2].probability == pytest.approx(6 / 9)
    assert (found[1].probability, found[1].low, found[1].high) == (1.0, 1.0, 1.0)
    assert found[0].low is not None
    assert found[0].high is not None
    assert (found[2].low, found[2].high) == pytest.approx((1 - found[0].high, 1 - found[0].low))
    assert 0.0 < found[0].low < 1 / 3 < found[0].high < 0.6


def test_a_ragged_row_is_compared_with_nothing() -> None:
    ragged = section(*full_suite("gloma", 40.0), *full_suite("mamba", 41.0)[:-3])
    assert improvements(ragged) == []
    assert list(profiles(ragged)) == [0]
    assert fronts(ragged)["parameters"] == [0]
    single = section(*full_suite("gloma", 40.0), *full_suite("mamba", 41.0, seeds=(0,)))
    assert improvements(single, fewest_seeds=2) == []
    assert [one.low for one in improvements(single)] == [None, None]


def test_a_front_has_the_rows_that_no_other_row_beats_in_score_and_cost() -> None:
    # (IQM, parameters, tokens/s): a cheap, b better and dearer, c worse than b at b's cost, d dear and best.
    known = {"a": (20.0, 26_000, 10.0), "b": (40.0, 27_000, 20.0), "c": (30.0, 27_000, 40.0), "d": (50.0, 90_000, 5.0)}
    records = [
        cost(record, parameters_total=parameters, train_tokens_per_s=speed)
        for name, (score, parameters, speed) in known.items()
        for record in full_suite(name, score, seeds=(0,))
    ]
    found = fronts(section(*records))
    assert found["parameters"] == [0, 1, 3]
    assert found["train_tokens_per_s"] == [1, 2, 3]  # more is better
    assert found["decision_p50_ms"] == [3]  # all equal: the best score alone
    equal = fronts(section(*full_suite("a", 40.0), *full_suite("b", 40.0)))
    assert equal["parameters"] == [0, 1]  # neither beats the other


def test_no_front_where_rows_measure_within_five_percent() -> None:
    def memory(name: str, megabytes: tuple[float, ...], **more: float) -> list[Record]:
        records = full_suite(name, 40.0)
        return [cost(one, peak_memory_mb=megabytes[i % 3], **more) for i, one in enumerate(records)]

    near = section(*memory("a", (480.0, 490.0, 510.0)), *memory("b", (470.0, 514.0, 520.0), parameters_total=27_001))
    assert near.rows[0].spread["peak_memory_mb"] == (480.0, 510.0)
    assert undecided_costs(near) == ["peak_memory_mb"]
    assert fronts(near)["peak_memory_mb"] == []
    assert fronts(near)["parameters"] == [0]  # counted, not measured: one is fewer
    assert fronts(near)["wall_seconds"] == [0, 1]  # equal for all
    far = section(*memory("a", (480.0, 490.0, 510.0)), *memory("b", (470.0, 515.0, 520.0)))
    assert undecided_costs(far) == []
    assert fronts(far)["peak_memory_mb"] == [0]


def test_unknown_costs_take_no_part_in_fronts() -> None:
    unknown = [cost(record, flops_per_token=None) for record in full_suite("a", 40.0)]  # type: ignore[arg-type]
    found = section(*unknown, *full_suite("b", 30.0))
    assert "flops_per_token" not in found.rows[0].cost
    assert fronts(found)["flops_per_token"] == [1]
    assert fronts(found)["parameters"] == [0]


def test_a_task_decides_a_pair_only_beyond_seeds_and_episodes() -> None:
    def row(name: str, *scores: float) -> list[Record]:
        other = [make_record(name, "walker2d-medium", seed, scores=(9,) * 500) for seed in (0, 1)]
        return other + [make_record(name, seed=seed, scores=(score,) * 500) for seed, score in enumerate(scores)]

    found, count = decided_tasks(section(*row("a", 99, 100, 100), *row("b", 40, 41, 42), *row("c", 20, 80, 50)))
    assert count == 6
    (one,) = found  # c spreads too far; on walker2d all are equal
    assert (one.task, one.better, one.worse) == ("hopper-medium", 0, 1)
    assert 0 < one.low < 99.67 - 41 < one.high
    equal, _ = decided_tasks(section(*row("a", 100, 100), *row("b", 99, 99)))
    assert [(one.better, one.worse) for one in equal] == [(0, 1)], "returns that are no shares have the noise of seeds"
    assert decided_tasks(section(*row("a", 100), *row("b", 0)))[0] == []


def test_equal_seeds_of_shares_are_no_proof() -> None:
    """Two constant answers on 500 starts of a coin: one is right on 259 of them, whatever the seed."""

    def coin(name: str, right: int) -> list[Record]:
        returns = [1.0] * right + [0.0] * (500 - right)
        protocol = {"normaliser": "declared", "reference": (0.5, 1.0), "episodes": 500, "targets": (3600.0, 1800.0)}
        points = 200 * (right / 500 - 0.5)
        found = []
        for seed in range(3):
            record = make_record(name, seed=seed, scores=(50.0,) * 500)
            content = json.loads(record.model_dump_json())
            content["identity"] |= {"suite": "mine", "task": "coin", "environment": "backbench/TMaze-v0"}
            content["identity"]["data"] |= {
                "return_mean": 0.5,
                "normalised_mean": 0.0,
                "return_min": 0,
                "return_max": 1,
            }
            content["protocol"] |= protocol
            for target in content["scores"]["last"]["targets"]:
                target |= {"returns": returns, "raw_mean": right / 500, "normalised_mean": points}
            content["curve"]["evaluations"] = []
            found.append(Record.model_validate_json(json.dumps(content)))
        return found

    assert decided_tasks(section(*coin("left", 259), *coin("right", 241))) == ([], 1)
    (one,), _ = decided_tasks(section(*coin("left", 259), *coin("oracle", 500)))
    assert one.low > 0


def test_learning_curves_are_means_over_the_seeds_that_have_the_step() -> None:
    first = make_record(seed=0, curve__loss=[(0, 1.0), (10, 0.5), (20, 0.25)])
    second = make_record(seed=1, scores=[60.0] * 3, curve__loss=[(0, 3.0), (20, 0.75)])
    found = courses([second, first])
    assert found["curves"] == {"hopper-medium": [[0, 2.0, 1.0, 3.0], [20, 0.5, 0.25, 0.75]]}
    ((step, points),) = found["evaluations"]["hopper-medium"]
    assert (step, points) == (1000, pytest.approx((49.0 + 59.0) / 2))
    assert [target for target, _, _ in found["targets"]["hopper-medium"]] == [3600.0, 1800.0]
    assert found["targets"]["hopper-medium"][0][2] == pytest.approx(55.0)
    assert courses([]) == {"curves": {}, "evaluations": {}, "targets": {}}
