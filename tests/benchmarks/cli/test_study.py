"""``bench study`` at its smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_calls import Call, calling

from backbench.benchmarks.run.executors import local
from backbench.benchmarks.run.executors.inline import InlineExecutor


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``bench`` in this process, its cells as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "LocalExecutor", lambda jobs, gpus: InlineExecutor())
    return calling(monkeypatch, capsys)


@pytest.mark.parametrize("name", ["ablation", "context", "reach", "scaling", "targets"])
def test_a_study_runs_resumes_and_writes_a_report(name: str, run: Call, tmp_path: Path) -> None:
    first = run("study", name, "--preset", "smoke", "--track", "none")
    assert first.code == 0, first.err
    assert "Smallest effect" in " ".join(first.out.split())
    folder = tmp_path / "studies" / name
    report = (folder / "report.md").read_text()
    assert f"bench study {name} --preset smoke" in report
    assert {file.name for file in folder.glob(f"{name}.*")} >= {f"{name}.svg", f"{name}.png"}
    again = run("study", name, "--preset", "smoke", "--track", "none")
    assert again.code == 0
    assert "0 of" in again.out
    assert (folder / "report.md").read_text() == report


def test_mistakes_are_one_line(call: Call, tmp_path: Path) -> None:
    unknown = call("study", "ablatoin")
    assert unknown.code == 2
    assert "unknown study 'ablatoin'; did you mean 'ablation'?" in unknown.err
    long = call("study", "ablation", "--preset", "paper")
    assert long.code == 2
    assert "add --yes to start" in long.err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_how_long_it_takes_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    said = call("study", "targets", "--dry-run")
    assert said.code == 0
    assert "24 of 24 cells to run, about" in said.out
    assert list(tmp_path.iterdir()) == []
