"""What a record accepts, what it refuses, and that a file is read as written or refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError
from record_factory import make_record

from backbench.leaderboard.record import schema
from backbench.leaderboard.record.files import canonical, dump_record, load_record
from backbench.leaderboard.record.schema import Record


def test_headline_is_last_checkpoint_first_target() -> None:
    record = make_record(scores=[10.0, 20.0])
    assert record.headline is not None
    assert (record.headline.target, record.headline.normalised_mean) == (3600.0, 15.0)
    assert make_record(failed="x").headline is None


def test_numpy_scalars_are_accepted() -> None:
    record = make_record(identity__seed=np.int64(3), cost__eval_seconds=np.float32(1.5))
    assert (record.identity.seed, record.cost and record.cost.eval_seconds) == (3, 1.5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"surprise": 1}, "surprise"),
        ({"identity__surprise": 1}, "surprise"),
        ({"key": "a/b"}, "key"),
        ({"identity__seed": -1}, "seed"),
        ({"identity__data__sha256": "AB" * 32}, "sha256"),
        ({"identity__data__return_mean": 1e9}, "return_mean"),
        ({"identity__data__normalised_mean": 45.0}, "identity.data.normalised_mean"),
        ({"identity__data": None}, "identity.data is missing"),
        ({"protocol__acting": "both"}, "acting"),
        ({"protocol__targets": []}, "targets"),
        ({"protocol__targets": [1800.0, 3600.0]}, "protocol.targets"),
        ({"protocol__targets": [1.0, 1.0]}, "twice"),
        ({"protocol__episodes": 4}, "3 of 4 episodes"),
        ({"protocol__max_steps": 999}, "max_steps"),
        ({"protocol__normaliser": "gamer"}, "there is: d4rl, atari-human, dt-gamer, declared, none"),
        ({"identity__task": "breakout"}, "identity.task 'breakout' is none of suite 'd4rl': halfcheetah-medium, "),
        ({"identity__task": "breakout", "identity__suite": "mine"}, "no D4RL reference scores"),
        ({"identity__suite": "atari"}, "identity.task 'hopper-medium' is none of suite 'atari': breakout, qbert"),
        ({"cost": None}, "cost is missing"),
        ({"scores__last__targets__0__raw_mean": 0.0}, "not the mean of returns"),
        ({"scores__last__targets__0__normalised_mean": 51.0}, "under normaliser 'd4rl'"),
        ({"scores__last__targets__0__lengths": [1]}, "lengths has 1 episodes"),
        ({"scores__last__targets__0__returns": [math.nan] * 3}, "finite"),
        ({"cost__train_seconds": math.inf}, "finite"),
        ({"cost__parameters_backbone": 10**9}, "larger than parameters_total"),
        ({"cost__decision__p95_ms": 0.1}, "p50_ms is larger"),
        ({"curve__loss": [(2, 1.0), (2, 1.0)]}, "increasing"),
        ({"curve__evaluations": [{"step": 1, "raw": 0.0, "normalised": 0.0}]}, "curve.evaluations (step 1)"),
        ({"provenance__started": "2026-01-31T12:00:00"}, "UTC"),
        ({"provenance__started": "2026-01-31T12:00:00+01:00"}, "UTC"),
        ({"provenance__weights_sha256": None}, "weights_sha256 is missing"),
        ({"failure": {"type": "A", "message": "b"}}, "failure is there"),
        ({"status": "failed"}, "failure is missing"),
        ({"status": "failed", "failure": {"type": "A", "message": "b"}}, "scores is there"),
    ],
)
def test_invalid_fields_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_record(**changes)
    assert said in str(caught.value)


def test_adjacent_reference_returns_are_refused() -> None:
    """The score overflows; no number is equal to it."""
    with pytest.raises(ValidationError, match="under normaliser 'declared'"):
        make_record(
            identity__suite="mine", protocol__normaliser="declared", protocol__reference=[0.0, 5e-324],
            curve__evaluations=[],
        )  # fmt: skip


def test_a_loss_that_float32_holds_is_kept() -> None:
    assert make_record(curve__loss=[(0, 3.4e38), (1, 0.1)]).curve.loss[0][1] == 3.4e38


def test_a_done_record_has_scores() -> None:
    with pytest.raises(ValidationError, match="scores is missing"):
        Record.model_validate(make_record().model_dump() | {"scores": None})


def test_the_best_checkpoint_must_follow_the_protocol() -> None:
    target = make_record().model_dump()["scores"]["last"]["targets"][1]
    assert make_record(scores__best={"step": 1, "targets": [target]}).scores
    for name, value in (("target", 5.0), ("returns", target["returns"][:1]), ("normalised_mean", 0.0)):
        with pytest.raises(ValidationError):
            make_record(scores__best={"step": 1, "targets": [target | {name: value}]})


def test_a_failed_cell_may_lack_its_data() -> None:
    assert make_record(failed="no such data set", identity__data=None).status == "failed"


def test_a_record_is_immutable() -> None:
    with pytest.raises(ValidationError):
        make_record().status = "failed"


def test_every_field_has_a_description() -> None:
    parts = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    undocumented = [
        f"{part.__name__}.{name}"
        for part in parts
        if part.__module__.startswith("backbench.")
        for name, field in part.model_fields.items()
        if not field.description
    ]
    assert undocumented == []


def test_records_hold_no_absolute_paths(tmp_path: Path) -> None:
    record = make_record(
        provenance__command="bench run data.path=/home/somebody/data/x.hdf5 results=~/out",
        provenance__config={"paths": ["/srv/secret/results", {"file:///mnt/a/b": 1}]},
        identity__options={"weights": "/home/somebody"},
    )
    dump_record(record, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert not any(word in text for word in ("somebody", "/srv", "/mnt", "~/"))
    assert load_record(tmp_path / "a.json") == record


def test_no_field_is_removed_or_renamed() -> None:
    """Removing or renaming a field breaks published records: it needs a new schema version."""
    expected = json.loads((Path(__file__).parent / "fields_v1.json").read_text())
    found = {
        part.__name__: sorted(part.model_fields)
        for part in vars(schema).values()
        if isinstance(part, type) and issubclass(part, schema.Part) and part is not schema.Part
    }
    assert found == expected
    assert Record.model_fields["schema_version"].default == 1


def test_a_record_without_later_fields_keeps_its_text(tmp_path: Path) -> None:
    old, new = make_record(), make_record(cost__flops_estimated=True, cost__state_bytes=0)
    assert not {"flops_estimated", "state_bytes"} & set(json.loads(canonical(old))["cost"])
    cost = json.loads(canonical(new))["cost"]
    assert (cost["flops_estimated"], cost["state_bytes"]) == (True, 0)
    dump_record(new, tmp_path / "a.json")
    assert load_record(tmp_path / "a.json") == new
    unknown = make_record(cost__flops_per_token=None)
    dump_record(unknown, tmp_path / "b.json")
    assert load_record(tmp_path / "b.json") == unknown


def test_a_record_without_an_action_head_keeps_its_text(tmp_path: Path) -> None:
    """So do the records of releases that did not know the field."""
    old, new = make_record(), make_record(protocol__head="tanh")
    assert "head" not in json.loads(canonical(old))["protocol"]
    none = make_record(protocol__head=None)
    assert "head" not in json.loads(canonical(none, as_read=True))["protocol"]
    assert "head" not in old.model_dump(mode="json")["protocol"]
    assert json.loads(canonical(new))["protocol"]["head"] == "tanh"
    dump_record(new, tmp_path / "a.json")
    assert load_record(tmp_path / "a.json").protocol.head == "tanh"
    with pytest.raises(ValidationError, match=r"protocol\.head"):
        make_record(protocol__head="")
