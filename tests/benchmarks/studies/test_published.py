"""The committed reports of studies are what ``bench study`` makes of the records beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPORTS = sorted((Path(__file__).parents[3] / "leaderboard" / "published" / "studies").glob("*/report.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.parent.name)
def test_a_committed_report_is_what_its_records_say(report: Path, bench: Callable[..., Any], tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(report.parent / "records", again / "records")
    made = bench("study", report.parent.name, "--out", str(again), "--track", "none", LANG="C.UTF-8")
    assert made.code == 0, made.err
    assert "\n0 of " in made.out, "cells ran"
    tables = sorted(path.name for path in report.parent.glob("*.csv"))
    assert tables == sorted(path.name for path in again.glob("*.csv"))
    for name in ("report.md", *tables):
        assert (again / name).read_text(encoding="utf-8") == (report.parent / name).read_text(encoding="utf-8"), name
    assert sorted(path.name for path in again.glob("*.svg")) == sorted(
        path.name for path in report.parent.glob("*.svg")
    )
