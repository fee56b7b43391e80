"""Retired records: listed with a reason, no longer published, and never submitted again."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_folders import results_of, snapshot
from whole_record import NOW, whole_record

from backbench.leaderboard.check import check
from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.record.published import Published
from backbench.leaderboard.trust.retired import read_retired
from backbench.leaderboard.trust.submit import submit

RECORD = whole_record()


@pytest.fixture
def published(tmp_path: Path) -> Published:
    found = Published(tmp_path / "records")
    submit(results_of(tmp_path / "results", RECORD), found.records)
    return found


def problems(published: Published) -> list[str]:
    return check(published, NOW, pages=False).problems


def test_a_list_is_read_by_key(published: Published) -> None:
    assert read_retired(published) == {}
    published.retired.write_text('date,key,reason\n2026-11-27,a.b,"gone, with its data"\n')
    assert read_retired(published) == {"a.b": "gone, with its data"}
    assert problems(published) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'key'; restore it: git checkout"),
        ("key,why\n", "has no column 'reason'; restore it: git checkout"),
        ("key,reason\na,\n", "line 2 lacks a key or a reason; write both"),
        ("key,reason\na,x\nb\n", "line 3 lacks a key or a reason; write both"),
        ("key,reason\n,x\n", "line 2 lacks a key or a reason; write both"),
        ("key,reason\na,x\na,y\n", "line 3 lists a again; remove the line"),
        ("key,reason\na,\udcff\n", "is not UTF-8 text; restore it: git checkout"),
    ],
)
def test_a_broken_list_is_one_problem(published: Published, text: str, said: str) -> None:
    published.retired.write_bytes(text.encode(errors="surrogateescape"))
    assert problems(published) == [f"{published.retired}: {said}"]


def test_a_published_record_cannot_be_retired(published: Published) -> None:
    published.retired.write_text(f"key,reason\n{RECORD.key},data gone\n")
    path = published.records / "d4rl" / f"{RECORD.key}.json"
    assert problems(published) == [
        f"{published.retired}: lists {RECORD.key}, and {path} is there; remove the file or the line"
    ]


def test_a_retired_record_is_not_submitted_again(tmp_path: Path) -> None:
    published = Published(tmp_path / "board" / "records")
    published.records.mkdir(parents=True)
    published.retired.write_text(f"key,reason\n{RECORD.key},data gone\n")
    before = snapshot(tmp_path / "board")
    with pytest.raises(RecordError, match="key: the record was retired: data gone; nothing was submitted"):
        submit(results_of(tmp_path / "results", RECORD), published.records)
    assert snapshot(tmp_path / "board") == before
