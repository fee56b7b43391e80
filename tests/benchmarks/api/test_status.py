"""What a folder of results says of its runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backbench import claims
from backbench.benchmarks.api.status import note_plan, report
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results as files
from backbench.claims import beating
from backbench.errors import UserError

Build = Callable[..., Cell]


def elsewhere(cell: Cell, results: Path, age: float) -> None:
    """A claim of another machine, whose last sign is so many seconds old."""
    path = cell.checkpoint_folder(results) / "000001" / claims.FILE
    path.parent.mkdir(parents=True)
    content = {"owner": "00000000-1f-2", "host": "node3", "pid": 31, "token": "x", "state": "held"}
    path.write_text(json.dumps(content), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)


def test_each_cell_has_its_state(tiny_cell: Build, tmp_path: Path) -> None:
    done, failed, running, far, stale, queued, started, _ = cells = [tiny_cell(seed=seed) for seed in range(8)]
    note_plan(cells, tmp_path, ("bench", "run", "--out", "my results"))
    done.record_path(tmp_path).parent.mkdir()
    done.record_path(tmp_path).touch()
    files.failure_path(failed, tmp_path).write_text("{}", encoding="utf-8")
    elsewhere(far, tmp_path, 10)
    elsewhere(stale, tmp_path, 600)
    (array := tmp_path / "slurm" / "backbench-1").mkdir(parents=True)
    (array / "keys").write_text(json.dumps([queued.key, started.key]), encoding="utf-8")
    (array / "1.log").touch()
    with beating(files.claim(running, tmp_path)):
        command, counts, *lines = report(tmp_path)
    assert command == "bench run --out 'my results'"
    assert counts == "  8 cells: 1 done, 1 failed, 2 running, 1 stale, 1 queued, 2 left"
    assert [line.split()[:2] for line in lines] == [
        ["running", running.key], ["running", far.key], ["stale", stale.key], ["failed", failed.key]
    ]  # fmt: skip
    assert f"process {os.getpid()} on {os.uname().nodename}" in lines[0]
    assert lines[2].endswith("process 31 on node3, silent for 10 min")
    assert str(files.failure_path(failed, tmp_path)) in lines[3], "a broken record is named"


def test_a_cell_whose_process_died_here_is_left(tiny_cell: Build, tmp_path: Path) -> None:
    note_plan([cell := tiny_cell()], tmp_path, ("bench", "run"))
    claim = files.claim(cell, tmp_path)
    text = (claim.folder / claims.FILE).read_text(encoding="utf-8")
    mine = json.loads(text)["owner"]
    dead = f"{mine.rpartition('-')[0]}-0"  # this process id, another start
    (claim.folder / claims.FILE).write_text(text.replace(mine, dead), encoding="utf-8")
    assert list(report(tmp_path))[1:] == ["  1 cell: 1 left"]


def test_the_same_grid_is_noted_once_and_the_newest_run_is_last(tiny_cell: Build, tmp_path: Path) -> None:
    grids = [[tiny_cell(seed=1), tiny_cell(seed=2)], [tiny_cell(seed=3)]]
    for number, cells in enumerate([*grids, grids[0][::-1]]):
        note_plan(cells, tmp_path, ("bench", str(number)))
        time.sleep(0.02)
    assert [line for line in report(tmp_path) if line.startswith("bench")] == ["bench 1", "bench 2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no plan of a run"),
        ('{"command": 1, "cells": []}', "is no plan of a run"),
        ('{"command": "x", "cells": ["../../etc/passwd"]}', "is no plan of a run"),
        ('{"command": "x", "cells": [', "ends too early"),
        (None, "bench run writes"),
    ],
)
def test_a_folder_without_a_sound_plan_is_one_line(tmp_path: Path, text: str | None, said: str) -> None:
    (tmp_path / "runs").mkdir()
    if text is not None:
        (tmp_path / "runs" / "1.plan").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        list(report(tmp_path))
