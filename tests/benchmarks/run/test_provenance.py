"""Whether the code of a run is that of its commit: what runs and submissions write is no code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backbench.benchmarks.run.provenance import state_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the ignored names of this one, and one record."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (tmp_path / "leaderboard" / "records" / "d4rl").mkdir(parents=True)
    (tmp_path / "leaderboard" / "check.py").write_text("")
    (tmp_path / "leaderboard" / "records" / "SHA256SUMS").write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_a_clean_clone(clone: Path) -> None:
    commit, dirty = state_of(clone)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False


def test_what_a_run_adds_is_no_code(clone: Path) -> None:
    for name in (
        "reproduced/records/x.json", "results/records/x.json", "leaderboard/published/records/d4rl/x.json",
        "leaderboard/published/records/SHA256SUMS", "leaderboard/published/verifications/d4rl/x.json",
        "leaderboard/published/pages/board.md",
    ):  # fmt: skip
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("{}")
    assert state_of(clone)[1] is False


@pytest.mark.parametrize("name", ["leaderboard/check.py", "leaderboard/new.py", "agents/reproduced/x.py", "setup.py"])
def test_other_code_is(clone: Path, name: str) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_text("changed")
    assert state_of(clone)[1] is True


def test_no_clone(tmp_path: Path) -> None:
    assert state_of(tmp_path) == (None, None)
