"""``bench`` in this process, for the tests of its commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from bench_calls import Answer, Call

from backbench.benchmarks.cli import app
from backbench.benchmarks.run import runner


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``bench`` in this process, in an empty working folder, without running cells."""
    monkeypatch.chdir(tmp_path)

    def no_cells(*_: Any, **__: Any) -> None:
        raise AssertionError("cells were started")

    monkeypatch.setattr(runner, "run", no_cells)

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capsys.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    return run
