"""A tuned run from its command to its board: a setting that diverges is no mistake, and nothing runs twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from backbench.benchmarks.cli.run import Where, invoke
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.suite_file import Trials
from backbench.leaderboard.record.files import load_records
from backbench.leaderboard.record.identity import trial, tuned
from backbench.leaderboard.trust.together import impossible_together


def test_the_best_of_the_trials_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = suites.table("memory").model_copy(update={"tune": Trials(tasks=("tmaze-24",))})
    monkeypatch.setattr(suites, "table", lambda name: table)
    settings = ("eval.episodes=4", "train.lr=1e-3,1e30")
    request = Request(("identity",), "memory", "smoke", ("tmaze-24",), overrides=settings)
    where = Where(jobs=2, out=tmp_path / "results", track="none")
    assert invoke(request, where, tune=2) == 0
    records, broken = load_records(where.out / "records")
    assert broken == []
    done = {record.key: record for record in records if record.status == "done"}
    assert [trial(record.identity.variant) is not None for record in done.values()].count(True) == 1
    (reported,) = (record for record in done.values() if tuned(record.identity.variant))
    assert reported.provenance.config["train"]["lr"] == 1e-3
    (failed,) = (record for record in records if record.status == "failed")
    assert trial(failed.identity.variant) == tuned(reported.identity.variant)
    shown = capsys.readouterr().out
    assert "train.lr=0.001" in shown
    assert "tuned: 2 settings of train.lr" in (where.out / "leaderboard.md").read_text()

    def no_run(*_: object) -> None:
        raise AssertionError("a done cell ran again")

    monkeypatch.setattr("backbench.benchmarks.run.runner.run", no_run)
    assert invoke(request, where, tune=2) == 0
    (where.out / "records" / f"{failed.key}.failed.json").unlink()
    with pytest.raises(AssertionError):
        invoke(request, where, tune=2)


def test_settings_that_optuna_proposes_become_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="optuna is of the extra tune")
    table = suites.table("memory").model_copy(update={"tune": Trials(tasks=("tmaze-24",))})
    monkeypatch.setattr(suites, "table", lambda name: table)
    settings = ("eval.episodes=4", "train.lr=tag(log,interval(1e-4,1e-2))")
    request = Request(("identity",), "memory", "smoke", ("tmaze-24",), overrides=settings)
    where = Where(jobs=2, out=tmp_path / "results", track="none")
    assert invoke(request, where, tune=3, sampler="optuna") == 0
    records, broken = load_records(where.out / "records")
    assert broken == []
    assert sum(trial(record.identity.variant) is not None for record in records) == 3
    (reported,) = (record for record in records if tuned(record.identity.variant))
    said = capsys.readouterr().out
    assert f"train.lr={reported.provenance.config['train']['lr']:g}" in said
    assert "tuned: 3 settings of train.lr that Optuna proposed" in (where.out / "leaderboard.md").read_text()
    assert list(impossible_together(records)) == []
