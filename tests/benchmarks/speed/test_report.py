"""A report has every measurement and can be read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbench.benchmarks.speed.parts.kernels import LENGTHS
from backbench.benchmarks.speed.report import Report, read
from backbench.errors import UserError


def test_report_holds_every_part_for_every_model(report: Report) -> None:
    names = {"transformer", "mamba", "gloma"}
    assert report.refused == []
    assert {one.model for one in report.training} == names
    assert {(one.length, one.batch) for one in report.lengths} == {(6, 8), (12, 4)}
    assert {(one.acting, one.batch) for one in report.latency} == {
        (a, b) for a in ("window", "recurrent") for b in (1, 16, 64)
    }
    assert {(one.acting, one.length) for one in report.latency_lengths} == {
        (a, n) for a in ("window", "recurrent") for n in (6, 12)
    }
    assert {(one.model, one.acting) for one in report.acting} == {
        (n, a) for n in names for a in ("window", "recurrent", "alone")
    }
    assert {one.shape[1] for one in report.scan_lengths} == set(LENGTHS)
    assert {one.window for one in report.kernels if one.operation == "selective_scan"} == {None, 3, 6}


def test_a_broken_report_is_refused_in_one_line(tmp_path: Path, report: Report) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "nothing.json")
    for number, text in enumerate(("{", "[]", json.dumps(report.model_dump(mode="json") | {"schema_version": 9}))):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(UserError, match=r"bench speed|measure first") as error:
            read(path)
        assert "\n" not in str(error.value)
