"""Records that are each credible, and contradict each other on one board."""

from __future__ import annotations

from typing import Any

import pytest
from whole_record import NOW, whole_record

from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.together import impossible_together
from backbench.leaderboard.trust.verify import doubts

FIRST = whole_record("mlp")


def contradictions(*records: Record) -> list[str]:
    """What is wrong between ``records``, of which each alone is credible."""
    assert [doubt for record in records for doubt in doubts(record, NOW)] == []
    return list(impossible_together(records))


def test_two_settings_of_one_variant_are_one_cell() -> None:
    """The rate is another, and the row does not say so."""
    one = whole_record()
    two = whole_record(config=[("train__lr", 0.1)], provenance__started="2026-02-01T00:00:00Z",
                       provenance__weights_sha256="cd" * 32)  # fmt: skip
    assert contradictions(one, two) == [f"{two.key} is the same cell of the board as {one.key}; remove one of the two"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"provenance__weights_sha256": FIRST.provenance.weights_sha256}, "has the weights of {first}; one train"),
        ({"cost__parameters_total": 27_001}, "has parameters 27001, and {first} of its row has 27000; "),
        ({"cost__parameters_backbone": 24_000}, "has backbone parameters 24000, and {first} of its row has 25000"),
        ({"cost__flops_per_token": 1.0}, "has FLOPs per token 1.0, and {first} of its row has 50000.0; restore"),
        ({"identity__data__episodes": 101}, "has another identity.data.episodes than {first}, and the same data; res"),
        ({"identity__data__return_std": 90.0}, "has another identity.data.return_std than {first}, and the same data"),
        ({"identity__data__rewards": "clipped"}, "has another identity.data.rewards than {first}, and the same data"),
    ],
)
def test_contradictory_records_are_a_problem(change: dict[str, object], said: str) -> None:
    first, second = FIRST, whole_record("mlp", seed=1, provenance__started="2026-02-01T00:00:00Z", **change)
    (line,) = contradictions(first, second)
    assert line.startswith(f"{second.key} {said.format(first=first.key)}")


def test_a_size_that_older_records_lack_contradicts_nothing_and_others_still_do() -> None:
    old = whole_record("mlp", cost__state_bytes=None)
    sizes = (24_976, 24_976, 24_977)
    new = [
        whole_record("mlp", seed=seed, provenance__started=f"2026-02-0{seed}T00:00:00Z", cost__state_bytes=size)
        for seed, size in enumerate(sizes, start=1)
    ]
    assert contradictions(old, *new[:2]) == []
    (line,) = contradictions(old, *new)
    assert line.startswith(f"{new[2].key} has state 24977, and {new[0].key} of its row has 24976; ")


def test_equal_weights_of_two_tasks_are_a_problem() -> None:
    sha = FIRST.provenance.weights_sha256
    other = whole_record("mlp", "walker2d-medium", provenance__weights_sha256=sha,
                         provenance__started="2026-02-01T00:00:00Z")  # fmt: skip
    (line,) = contradictions(FIRST, other)
    assert f"{other.key} has the weights of {FIRST.key}" in line


def test_one_training_may_be_evaluated_twice() -> None:
    sha = FIRST.provenance.weights_sha256
    other = whole_record("mlp", variant="eval.acting=recurrent", config=[("eval__acting", "recurrent")],
                         protocol__acting="recurrent", provenance__weights_sha256=sha)  # fmt: skip
    assert contradictions(FIRST, other) == []


def test_last_digits_of_data_summaries_may_differ() -> None:
    assert FIRST.identity.data is not None
    std = FIRST.identity.data.return_std * (1 + 1e-9)
    assert contradictions(FIRST, whole_record("mlp", seed=1, identity__data__return_std=std)) == []


def test_a_row_with_unmatched_size_is_a_problem() -> None:
    words = "match=params:transformer model.d_model=32"
    alone = whole_record("mlp", variant=words, cost__parameters_total=54_000)
    assert contradictions(alone) == []  # what it was matched to is not here
    layers: dict[str, Any] = {"config": [("model__n_layers", 4)], "identity__model__n_layers": 4}
    reference = whole_record()
    deeper = whole_record(variant="model.n_layers=4", cost__parameters_total=54_000, **layers)
    assert contradictions(alone, reference, deeper) == [
        f"{alone.key} is said to be matched to transformer, and has 54,000 parameters to its 27,000; remove it"
    ]
    near = whole_record("mlp", variant=words, cost__parameters_total=27_800)
    assert contradictions(near, reference, deeper) == []
    # Beside a deeper reference it is the deeper one that counts.
    deep = whole_record("mlp", variant=f"model.n_layers=4 {words}", cost__parameters_total=54_100, **layers)
    assert contradictions(deep, reference, deeper) == []
