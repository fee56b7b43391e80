"""Whether the code of a run is that of its commit. Generated files are not code."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest
import torch

import backbench
from backbench.benchmarks.run import provenance
from backbench.benchmarks.run.provenance import git_state

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the ignored names of this one, and one record."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    published = tmp_path / "leaderboard" / "published"
    (published / "records").mkdir(parents=True)
    (tmp_path / "leaderboard" / "check.py").write_text("")
    (published / "records" / "SHA256SUMS").write_text("")
    (published / "retired.csv").write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_a_clean_clone_has_a_commit_and_no_changes(clone: Path) -> None:
    commit, dirty = git_state(clone)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False


def test_generated_files_do_not_count(clone: Path) -> None:
    for name in (
        "reproduced/records/x.json", "results/records/x.json", "leaderboard/published/records/d4rl/x.json",
        "leaderboard/published/records/SHA256SUMS", "leaderboard/published/verifications/d4rl/x.json",
        "leaderboard/published/pages/board.md", "leaderboard/published/studies/x/report.md",
        "r/records/x.json", "r/mlflow.db", "r/mlartifacts/1/meta.yaml", "r/checkpoints/x/last.safetensors",
        "my-data/me/walk/random-v0/data/main_data.hdf5", "notes.txt", "log",
    ):  # fmt: skip
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("{}")
    assert git_state(clone)[1] is False


@pytest.mark.parametrize(
    "name",
    [
        "leaderboard/check.py",
        "leaderboard/new.py",
        "agents/x.py",
        "setup.py",
        "leaderboard/published/retired.csv",
        "my_mixer.py",
        "deep/in/a/package.py",
        "configs/preset/mine.yaml",
        "suites/mine.yaml",
        "pyproject.toml",
    ],
)
def test_changed_or_new_code_counts(clone: Path, name: str) -> None:
    (clone / name).parent.mkdir(parents=True, exist_ok=True)
    (clone / name).write_text("changed")
    assert git_state(clone)[1] is True


def test_a_folder_that_is_no_clone_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, None)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other fields")
def test_the_processor_is_described_as_the_system_lists_it() -> None:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^(vendor_id|cpu family|model|stepping|model name)\s*: (.*)$", text, re.MULTILINE))
    hardware = provenance.hardware(None)
    assert hardware.cpu == listed["model name"]
    found = hardware.processor
    assert found is not None
    assert (found.vendor, found.family, found.model, found.stepping) == tuple(
        listed[name] for name in ("vendor_id", "cpu family", "model", "stepping")
    )
    assert "avx2" in found.instructions
    assert found.blas.startswith("openblas")
    assert found.torch == f"{torch.backends.cpu.get_cpu_capability()}, MKL"
    assert found.libc.startswith("glibc")
    assert "unknown" not in repr(found)


def test_the_version_is_that_of_the_code_and_not_of_an_older_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "version", lambda name: "0.0.1")
    assert provenance.packages()["backbench"] == backbench.__version__
    assert provenance.packages()["numpy"] == "0.0.1"
