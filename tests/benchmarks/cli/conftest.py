"""``bench`` in this process, for the tests of its commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_calls import Call, calling

from backbench.benchmarks.run import runner


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``bench`` in this process, in an empty working folder, without running cells."""
    monkeypatch.chdir(tmp_path)

    def no_cells(*_: Any, **__: Any) -> None:
        raise AssertionError("cells were started")

    monkeypatch.setattr(runner, "run", no_cells)

    return calling(monkeypatch, capsys)
