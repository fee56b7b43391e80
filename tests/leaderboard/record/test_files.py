"""A record is read exactly as written, or refused in one line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_factory import make_record

from backbench.leaderboard.record.files import RecordError, canonical, dump_record, load_record, load_records


@pytest.mark.parametrize("failed", [None, "loss is nan"])
def test_a_record_reads_back_equal_and_writes_equal_bytes(tmp_path: Path, failed: str | None) -> None:
    record = make_record(failed=failed)
    dump_record(record, tmp_path / "new" / "a.json")
    again = load_record(tmp_path / "new" / "a.json")
    assert again == record
    dump_record(again, tmp_path / "new" / "b.json")
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "new" / "b.json").read_bytes()
    assert sorted(os.listdir(tmp_path / "new")) == ["a.json", "b.json"]  # no temporary file stays


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("scores.last.targets.0.returns.0", "1.7e308", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.returns.0", "1e306", "scores.last.targets.0.returns.0"),
        ("scores.last.targets.0.returns.0", "-1.1e12", "scores.last.targets.0.returns.0"),
        (
            "scores.last.targets.0.returns.0",
            "1e400",
            "has a number that is not finite: scores.last.targets.0.returns.0",
        ),
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
        ("cost.parameters_total", "9" * 5000, "is malformed JSON: a number has too many digits"),
        ("identity.options.n_heads", "9" * 5000, "is malformed JSON: a number has too many digits"),
    ],
)
def test_an_impossible_number_is_refused_in_one_line(tmp_path: Path, path: str, value: str, where: str) -> None:
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


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.floats(allow_nan=False, allow_infinity=False))
def test_the_canonical_text_is_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, words: str, value: float
) -> None:
    record = make_record(variant=words, identity__options={words: value, "n": 1})
    path = tmp_path_factory.mktemp("one") / "x.json"
    dump_record(record, path)
    assert path.read_bytes() == canonical(record).encode()
    assert canonical(load_record(path)) == canonical(record)


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


def test_a_folder_gives_its_records_and_an_error_for_each_broken_file(tmp_path: Path) -> None:
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such record"):
        load_record(tmp_path / "a.json")
