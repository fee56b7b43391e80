"""What a process is told about its cell, from any executor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Job, order
from backbench.benchmarks.run.executors.worker import STOP_SIGNALS, read_order, stop_requests
from backbench.errors import UserError

Build = Callable[..., Cell]


@pytest.fixture
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_order_brings_the_cell_the_command_and_the_backbones(tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("mine", seed=7, eval__targets=(1.5,))
    job = Job(tmp_path, "cpu", ("bench", "run", "--out", "a b"), {"mine": "some.module:Mine"})
    (tmp_path / "1.json").write_text(order(cell, job), encoding="utf-8")
    assert read_order(tmp_path / "1.json", tmp_path, "cpu")[:2] == (cell, job)


def test_the_settings_of_a_record_are_an_order(tiny_cell: Build, tmp_path: Path) -> None:
    cell = tiny_cell("gru")
    (tmp_path / "1.json").write_text(json.dumps(cell.resolved()), encoding="utf-8")
    read, job, _ = read_order(tmp_path / "1.json", tmp_path, "auto")
    assert (read.key, job) == (cell.key, Job(tmp_path, "auto", ("run_cell",)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: [told], "has no settings of a cell"),
        (lambda told: told | {"command": "bench run"}, "command is no list of words"),
        (lambda told: told | {"command": [1]}, "command is no list of words"),
        (lambda told: told | {"backbones": {"mine": "here"}}, "backbones is no mapping"),
        (lambda told: told | {"backbones": ["mine"]}, "backbones is no mapping"),
        (lambda told: told | {"data": 7}, "data is no digest"),
        (lambda told: told | {"device": "cuda"}, "unknown device"),
        (lambda told: told | {"cell": 3}, "settings of the record are 3"),
        (lambda told: told | {"cell": told["cell"] | {"seed": "x"}}, "seed is 'x'"),
        (lambda told: told | {"cell": told["cell"] | {"seed": -1}}, "seed -1"),
        (lambda told: "x" * (1 << 20), "the limit is"),
    ],
)
def test_a_wrong_order_is_one_line_with_the_file(
    tiny_cell: Build, tmp_path: Path, change: Callable[[Any], Any], said: str
) -> None:
    told = json.loads(order(tiny_cell(), Job(tmp_path)))
    (path := tmp_path / "1.json").write_text(json.dumps(change(told)), encoding="utf-8")
    with pytest.raises(UserError, match=said) as caught:
        read_order(path, tmp_path, "cpu")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("own_signals")
def test_a_stop_signal_is_heard_and_ends_nothing() -> None:
    asked = stop_requests()
    assert not asked.is_set()
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked.is_set()
