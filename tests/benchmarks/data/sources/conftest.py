"""What tests of published data share: D4RL's file of three episodes, in a folder and behind a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from d4rl_files import ARRAYS, FILE, Server, serving, write

from backbench.benchmarks.data import download
from backbench.benchmarks.data.sources import d4rl
from backbench.benchmarks.data.trajectories import Episode, Trajectories


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "BLOCK", 500)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv(d4rl.VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "published" / FILE, ARRAYS).parent


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the episodes as they were written, without any file."""
    made = []
    for begin, end, terminated in ((0, 30, True), (30, 31, True), (31, 51, False)):
        seen = np.concatenate([ARRAYS["observations"][begin:end], ARRAYS["next_observations"][end - 1 : end]])
        rewards = ARRAYS["rewards"][begin:end].astype(np.float64)
        made.append(Episode(seen, ARRAYS["actions"][begin:end], rewards, terminated))
    return Trajectories.from_episodes(made).digest
