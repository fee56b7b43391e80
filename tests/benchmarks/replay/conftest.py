"""A record of a cell that takes a second, from a clean commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edited_records import COMMIT

from backbench.benchmarks.run import provenance
from backbench.benchmarks.run.cell import run_cell
from backbench.leaderboard.record.schema import Record


@pytest.fixture(scope="session")
def record(tiny_cell: Callable[..., Any], hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Of a cell of a second, from a clean commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "git_state", lambda: (COMMIT, False))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run_cell(tiny_cell("gloma"), tmp_path_factory.mktemp("then"), command=["bench", "run"])
        finally:
            torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda: (COMMIT, False))
