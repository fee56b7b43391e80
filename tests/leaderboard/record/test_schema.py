"""What a record accepts, what it refuses, and that a file is read as written or refused in one line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from record_factory import make_record

from backbench.leaderboard.record import schema
from backbench.leaderboard.record.files import (
    RecordError,
    cell_digest,
    cell_key,
    dump_record,
    load_record,
    load_records,
)
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.privacy import without_paths


@pytest.mark.parametrize("failed", [None, "loss is nan"])
def test_reads_back_equal_and_writes_equal_bytes(tmp_path: Path, failed: str | None) -> None:
    record = make_record(failed=failed)
    dump_record(record, tmp_path / "new" / "a.json")
    again = load_record(tmp_path / "new" / "a.json")
    assert again == record
    dump_record(again, tmp_path / "new" / "b.json")
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "new" / "b.json").read_bytes()
    assert sorted(os.listdir(tmp_path / "new")) == ["a.json", "b.json"]  # no temporary file stays


def test_headline_is_last_checkpoint_first_target() -> None:
    record = make_record(scores=[10.0, 20.0])
    assert record.headline is not None
    assert (record.headline.target, record.headline.normalised_mean) == (3600.0, 15.0)
    assert make_record(failed="x").headline is None


def test_numpy_scalars_are_taken() -> None:
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
def test_refuses(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_record(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("scores.last.targets.0.returns.0", "1.7e308", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.returns.0", "1e306", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.returns.0", "-1.1e12", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.returns.0", "1e400", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.raw_mean", "1e13", "scores.last.targets.0.raw_mean"),
        ("curve.loss.0.1", "1.7e308", "curve.loss.0.1"),
        ("curve.evaluations.0.raw", "1e300", "curve.evaluations.0.raw"),
        ("cost.parameters_total", f"1{'0' * 400}", "cost.parameters_total"),
        ("cost.parameters_total", "1000000000000001", "cost.parameters_total"),
        ("cost.train_seconds", "1.7e308", "cost.train_seconds"),
        ("cost.train_seconds", f"1{'0' * 400}", "cost.train_seconds"),
        ("cost.flops_per_token", "1e16", "cost.flops_per_token"),
        ("identity.data.return_max", "1e13", "identity.data.return_max"),
        ("identity.data.return_std", "1e200", "identity.data.return_std"),
        ("identity.seed", f"1{'0' * 30}", "identity.seed"),
        ("protocol.targets.0", "1e200", "protocol.targets.0"),
        ("cost.parameters_total", "9" * 5000, "malformed JSON: a number has too many digits"),
        ("identity.options.n_heads", "9" * 5000, "malformed JSON: a number has too many digits"),
    ],
)
def test_a_number_that_cannot_be_is_one_line(tmp_path: Path, path: str, value: str, where: str) -> None:
    content = json.loads(make_record().model_dump_json())
    *folders, last = path.split(".")
    part = content
    for folder in folders:
        part = part[int(folder) if isinstance(part, list) else folder]
    part[int(last) if isinstance(part, list) else last] = "HERE"
    file = tmp_path / "x.json"
    file.write_text(json.dumps(content).replace('"HERE"', value))
    with pytest.raises(RecordError) as caught:
        load_record(file)
    assert str(caught.value).startswith(f"{file}: {where}")
    assert "\n" not in str(caught.value)


def test_two_returns_that_are_next_to_each_other_make_no_scale() -> None:
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


def test_best_is_held_to_the_protocol_too() -> None:
    target = make_record().model_dump()["scores"]["last"]["targets"][1]
    assert make_record(scores__best={"step": 1, "targets": [target]}).scores
    for name, value in (("target", 5.0), ("returns", target["returns"][:1]), ("normalised_mean", 0.0)):
        with pytest.raises(ValidationError):
            make_record(scores__best={"step": 1, "targets": [target | {name: value}]})


def test_a_failed_cell_may_lack_its_data() -> None:
    assert make_record(failed="no such data set", identity__data=None).status == "failed"


def test_nothing_changes_afterwards() -> None:
    with pytest.raises(ValidationError):
        make_record().status = "failed"


def test_every_field_says_what_it_is() -> None:
    parts = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    undocumented = [
        f"{part.__name__}.{name}"
        for part in parts
        if part.__module__ == schema.__name__
        for name, field in part.model_fields.items()
        if not field.description
    ]
    assert undocumented == []


def test_paths_do_not_get_out(tmp_path: Path) -> None:
    record = make_record(
        provenance__command="bench run data.path=/home/somebody/data/x.hdf5 results=~/out",
        provenance__config={"paths": ["/srv/secret/results", {"file:///mnt/a/b": 1}]},
        identity__options={"weights": "/home/somebody"},
    )
    dump_record(record, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert not any(word in text for word in ("somebody", "/srv", "/mnt", "~/"))
    assert load_record(tmp_path / "a.json") == record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no /home/joe/x.npz there", "no .../x.npz there"),
        ("'/home/joe'", "'...'"),
        ("a=/tmp", "a=.../tmp"),
        ("C:\\Users\\joe\\x.txt", ".../x.txt"),
        ("sqlite:////srv/m.db", ".../m.db"),
        *((same, same) for same in ("12 tokens/s, N/A, a / b", "https://host/~joe/page", "d4rl/hopper-v0", "</b>")),
    ],
)
def test_paths_are_cut(text: str, expected: str) -> None:
    assert without_paths(text) == expected


@given(st.text(alphabet="/~:.aC\\ '=<"))
def test_cutting_paths_twice_is_cutting_once(text: str) -> None:
    assert without_paths(without_paths(text)) == without_paths(text)


def test_digest_and_key() -> None:
    # sha256 of the bytes {"a":[1,2],"b":null}
    assert cell_digest({"b": None, "a": (1, 2)}) == cell_digest({"a": [1, 2], "b": None}) == "f25109c4"
    assert cell_digest({"a": 1}) != cell_digest({"a": 1.0})
    with pytest.raises(ValueError):
        cell_digest({"a": math.nan})
    assert cell_key("own.module:Thing", "t", "embedded", "quick", 3, "0" * 8) == (
        "own-module-Thing.t.embedded.quick.s3.00000000"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "empty"),
        (lambda text: text[: len(text) // 2], "truncated"),
        (lambda text: text[: text.index("transformer") + 3], "truncated"),
        (lambda text: text.replace(":", ";", 1), "malformed JSON"),
        (lambda text: "[]", "JSON object"),
        (lambda text: "{}", "schema_version: is missing"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "2 is another version"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": true'), "True is another version"),
        (lambda text: text.replace('"seed": 0', '"seed": "0"'), "identity.seed"),
        (lambda text: text.replace('"seed": 0', '"seed": NaN'), "NaN"),
        (lambda text: text.replace('"status": "done"', '"statsu": "done"'), "status"),
    ],
)
def test_a_broken_file_is_named_in_one_line_and_left_alone(tmp_path: Path, change: Any, said: str) -> None:
    path = tmp_path / "a.json"
    dump_record(make_record(), path)
    broken = change(path.read_text())
    path.write_text(broken)
    with pytest.raises(RecordError) as caught:
        load_record(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert said in message
    assert path.read_text() == broken


def test_what_would_not_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    dump_record(make_record(), path)
    before = path.read_bytes()
    wrong = make_record().model_copy(update={"status": "failed"})
    nan = make_record().model_copy(update={"failure": None, "key": "k"})
    nan.identity.options["x"] = math.nan
    for record in (wrong, nan):
        with pytest.raises(RecordError):
            dump_record(record, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_of_records(tmp_path: Path) -> None:
    first, second = make_record(seed=0), make_record(seed=1)
    dump_record(second, tmp_path / "b" / "second.json")
    dump_record(first, tmp_path / "a" / "first.json")
    dump_record(first, tmp_path / "c" / "copy.json")
    (tmp_path / "a" / "broken.json").write_text("{")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "notes.txt").write_text("x")
    records, errors = load_records(tmp_path)
    assert records == [first, second]
    assert [error.path.name for error in errors] == ["broken.json", "copy.json"]
    assert "first.json" in str(errors[1])
    assert (tmp_path / "a" / "broken.json").exists()
    (problem,) = load_records(tmp_path / "none")[1]
    assert "no such folder" in str(problem)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such record"):
        load_record(tmp_path / "a.json")


def test_schema_is_stable() -> None:
    """Removing or renaming a field breaks published records: it needs a new schema version."""
    expected = json.loads((Path(__file__).parent / "fields_v1.json").read_text())
    found = {
        part.__name__: sorted(part.model_fields)
        for part in vars(schema).values()
        if isinstance(part, type) and issubclass(part, schema.Part) and part is not schema.Part
    }
    assert found == expected
    assert Record.model_fields["schema_version"].default == 1
