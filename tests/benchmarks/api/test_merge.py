"""Folders of results joined: what is added, what is one, what conflicts, and what is left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from record_factory import make_record
from safetensors.numpy import save_file

from backbench import claims
from backbench.benchmarks.api.merge import merge
from backbench.leaderboard.record.files import canonical, dump_record, load_record, load_records
from backbench.leaderboard.record.schema import Record

DIGEST = f"{7:064d}"


def add(folder: Path, seed: int, **changes: Any) -> Record:
    """A record with weights in a folder."""
    made = make_record(seed=seed)
    provenance = made.provenance.model_copy(update={"weights_sha256": DIGEST, **changes})
    record = made.model_copy(update={"provenance": provenance})
    dump_record(record, folder / "records" / f"{record.key}.json")
    home = folder / "checkpoints" / record.key
    home.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.zeros(1)}, home / "last.safetensors", {"sha256": DIGEST})
    return record


def test_records_and_their_weights_are_added_and_equal_ones_are_one(tmp_path: Path) -> None:
    a, b, to = tmp_path / "a", tmp_path / "b", tmp_path / "to"
    first, second = add(a, 0), add(b, 1)
    add(b, 0)
    (a / "checkpoints" / first.key / "000001").mkdir()
    found = merge([a, b], to)
    assert found.said == "2 records added, 0 were there; 0 failures added"
    assert (found.conflicts, found.broken, found.left_out) == ([], [], [])
    weights = [f"checkpoints/{one.key}/last.safetensors" for one in (first, second)]
    names = sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file())
    assert names == sorted([*weights, *(f"records/{one.key}.json" for one in (first, second))])
    assert merge([a, b], to).said == "0 records added, 2 were there; 0 failures added"


def test_a_cell_that_ran_twice_with_an_equal_result_is_no_conflict(tmp_path: Path) -> None:
    a, b, to = tmp_path / "a", tmp_path / "b", tmp_path / "to"
    record = add(a, 0)
    add(b, 0, started="2026-02-03T04:05:06Z")
    found = merge([a, b], to)
    assert found.conflicts == []
    assert found.said == "1 record added, 0 were there, 1 were run twice with equal results; 0 failures added"
    written = load_record(to / "records" / f"{record.key}.json")
    assert written == load_record(a / "records" / f"{record.key}.json")


def test_two_records_of_a_cell_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    a, b, to = tmp_path / "a", tmp_path / "b", tmp_path / "to"
    record = add(a, 0, git_commit="a" * 40)
    add(b, 0, git_commit="b" * 40)
    add(b, 1)
    found = merge([a, b], to)
    assert found.conflicts == [f"{record.key}: {a} and {b} differ in commit (aaaaaaaa, bbbbbbbb)"]
    assert not to.exists()
    shutil.copytree(a, to)
    before = (to / "records" / f"{record.key}.json").read_bytes()
    assert len(merge([b], to).conflicts) == 1
    assert (to / "records" / f"{record.key}.json").read_bytes() == before


def test_a_record_that_is_written_differently_is_equal(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    record = add(a, 0)
    add(b, 0)
    (b / "records" / f"{record.key}.json").write_text(canonical(record).replace("\n", "\n "), encoding="utf-8")
    assert merge([a, b], tmp_path / "to").conflicts == []


def test_a_success_is_taken_before_a_failure(tmp_path: Path) -> None:
    a, to = tmp_path / "a", tmp_path / "to"
    record = add(a, 0)
    for seed in (0, 1):
        failure = make_record(seed=seed, failed="loss")
        dump_record(failure, to / "records" / f"{failure.key}.failed.json")
        dump_record(failure, tmp_path / "b" / "records" / f"{failure.key}.failed.json")
    merge([a, tmp_path / "b"], to)
    records, broken = load_records(to / "records")
    assert sorted((one.key == record.key, one.status) for one in records) == [(False, "failed"), (True, "done")]
    assert broken == []
    assert len(list((to / "records").iterdir())) == 2


def test_broken_and_foreign_files_are_a_line_each(tmp_path: Path) -> None:
    a = tmp_path / "a"
    record = add(a, 0)
    (a / "records" / "notes.txt").write_text("hello", encoding="utf-8")
    (a / "records" / "half.json").write_text('{"a": ', encoding="utf-8")
    shutil.copy(a / "records" / f"{record.key}.json", a / "records" / "other.json")
    found = merge([a], tmp_path / "to")
    assert [Path(line.partition(":")[0]).name for line in found.broken] == ["half.json", "notes.txt", "other.json"]
    assert found.said.startswith("1 record added")


def test_cells_that_run_or_are_half_done_are_left_out(tmp_path: Path) -> None:
    a = tmp_path / "a"
    add(a, 0)
    held = claims.take(a / "checkpoints" / "running")
    half = claims.take(a / "checkpoints" / "half")
    (half.folder / "state.pt").touch()
    half.release()
    lines = merge([a], tmp_path / "to").left_out
    assert lines[0] == f"half: half done in {a}; left out"
    assert "running: process" in lines[1]
    assert not (tmp_path / "to" / "checkpoints" / "running").exists()
    held.release()


def test_the_command_exits_1_for_a_conflict(tmp_path: Path, bench: Callable[..., Any]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    record = add(a, 0)
    add(b, 0, git_commit="b" * 40)
    assert bench("merge", a, "--to", tmp_path / "to").out == (
        f"1 record added, 0 were there; 0 failures added; they are in {tmp_path / 'to'}/\n"
    )
    got = bench("merge", b, "--to", tmp_path / "to")
    assert got.code == 1
    assert record.key in got.err
    assert "Nothing was written" in got.out
    assert bench("merge", tmp_path / "none", "--to", tmp_path / "to").code == 2
