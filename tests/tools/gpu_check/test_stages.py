"""Stages as processes: their time limits, the budget, and what a failed or late one leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from gpu_check import stages
from gpu_check.settings import Budget, Settings
from gpu_check.stages import DONE, FAILED, LATE, SKIPPED, Result, Stage

STAND_IN = """
import json, subprocess, sys, time
name, path, seconds, settings = sys.argv[1:]
with open(path, "w") as file:
    file.write(json.dumps({"kind": "found", "by": name}) + "\\n")
    if name == "cut off":
        file.write('{"kind": "fo')
    if name == "says an error":
        file.write('{"kind": "error", "error": "mamba: out of memory", "value": NaN}\\n')
print("printed by", name)
if name == "raises":
    raise ValueError("no such kernel")
if name == "late":
    child = subprocess.Popen(["sleep", "60"])
    print("child", child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of stages that a stand-in plays."""
    (tmp_path / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(stages, "MODULE", "stand_in")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "log.txt"


def run(log: Path, *names: str, limit: float = 20, total: float = 100) -> list[Result]:
    return stages.run([Stage(n, n, limit=limit, least=1) for n in names], Settings(), Budget(total), log)


def ends(process: int) -> bool:
    """Whether the process is gone, or only waits for its parent to notice, within seconds."""
    for _ in range(100):
        try:
            if "State:\tZ" in Path(f"/proc/{process}/status").read_text(encoding="utf-8"):
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_failed_stage_stops_no_other_and_keeps_what_it_found(log: Path) -> None:
    good, bad = run(log, "good", "raises")
    assert (good.status, good.error, good.findings) == (DONE, "", [{"kind": "found", "by": "good"}])
    assert (bad.status, bad.error) == (FAILED, "ValueError: no such kernel")
    assert bad.findings == [{"kind": "found", "by": "raises"}]
    assert "printed by good" in log.read_text(encoding="utf-8")
    assert sorted(path.name for path in log.parent.iterdir() if path.name.startswith(".")) == []


def test_a_late_stage_ends_with_all_that_it_started(log: Path) -> None:
    began = time.monotonic()
    (late,) = run(log, "late", limit=1.5)
    assert time.monotonic() - began < 15
    assert (late.status, late.error, late.findings) == (LATE, "ended after 2 s", [{"kind": "found", "by": "late"}])
    child = int(log.read_text(encoding="utf-8").split("child ")[1].split()[0])
    assert ends(child)


def test_an_error_that_a_stage_says_is_its_status_and_no_number_is_nothing(log: Path) -> None:
    (said,) = run(log, "says an error")
    assert (said.status, said.error) == (FAILED, "mamba: out of memory")
    assert said.found("error")[0]["value"] is None


def test_a_line_that_was_cut_off_is_dropped(log: Path) -> None:
    (cut,) = run(log, "cut off")
    assert (cut.status, cut.findings) == (DONE, [{"kind": "found", "by": "cut off"}])


def test_a_stage_without_time_is_skipped_and_says_so(log: Path) -> None:
    (skipped,) = run(log, "good", total=0.5)
    assert skipped.status == SKIPPED
    assert "were left, and it needs 1" in skipped.error
    assert skipped.findings == []


def test_the_budget_counts_down_to_nothing() -> None:
    now = [100.0]
    budget = Budget(10, clock=lambda: now[0])
    now[0] = 104
    assert (budget.spent, budget.left) == (4, 6)
    now[0] = 120
    assert (budget.spent, budget.left) == (20, 0)


def test_settings_survive_the_way_to_a_stage() -> None:
    settings = Settings("cpu", counts=(1, 2), overrides=("model.d_model=16",))
    assert Settings.of(settings.text()) == settings
