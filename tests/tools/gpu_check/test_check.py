"""The check as a whole, tiny and on the CPU, and its report."""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gpu_check import cells, hours, packing, report
from gpu_check import check as checks
from gpu_check.__main__ import main
from gpu_check.busy import busy_seconds, covered
from gpu_check.cells import measure_simulator
from gpu_check.equality import compare_graphs, verdict
from gpu_check.packing import phases
from gpu_check.settings import Settings
from gpu_check.stages import SKIPPED, Result, Stage
from gpu_check.suite import read_output, read_results

SMALL = ("model.d_model=16", "model.n_layers=1", "model.context=4", "train.batch_size=8", "eval.episodes=2")
TINY = Settings(
    "cpu", backbones=("mlp",), overrides=SMALL, cell_seconds=0.2, counts=(1, 2), phase_seconds=0.1, updates=4
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Exit status and folder of a rehearsal with one backbone. One stage fails, and one has no time."""
    out = tmp_path_factory.mktemp("gpu") / "report"
    names = ("cells", "packing", "unknown")
    group = (*(Stage(name, name, limit=200, least=1) for name in names), Stage("speed", "speed", limit=200, least=1e6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "GROUPS", (group,))
        return checks.check(replace(TINY, out=str(out), counts=(1,))), out


def test_a_rehearsal_measures_and_says_that_it_is_one(ran: tuple[int, Path]) -> None:
    _, out = ran
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))
    stages = {one["name"]: one for one in found["stages"]}
    assert found["rehearsal"] is True
    assert found["machine"]["device"].startswith("CPU, ")
    for name in ("cells", "packing"):
        assert (stages[name]["status"], stages[name]["error"]) == ("done", "")
    assert [one["count"] for one in stages["packing"]["findings"]] == [1]
    kinds = [one["kind"] for one in stages["cells"]["findings"]]
    assert kinds == ["cell", "decision", "decision"]
    cell = stages["cells"]["findings"][0]
    assert cell["updates_per_s"] == pytest.approx(cell["updates"] / cell["seconds"])
    assert cell["tokens_per_s"] == pytest.approx(cell["updates_per_s"] * 8 * 4 * 3)
    assert (cell["planned_updates"], cell["planned_evaluations"], cell["episodes"]) == (100_000, 10, 2)
    assert (found["table"]["missing"], found["table"]["met"]) == ([], None)
    assert found["table"]["cells"] == 27
    page = (out / "report.md").read_text(encoding="utf-8")
    assert report.REHEARSAL in page
    assert page.startswith("# GPU check: CPU, ")
    assert "of small cells on this CPU, mean nothing" in page
    assert "The goal is" not in page


class InThreads:
    """Stands in for processes: threads whose cells do so many updates a second, and fail for one backbone."""

    def __init__(self, method: str) -> None:
        assert method == "spawn"

    @staticmethod
    def Pipe() -> tuple[Any, Any]:
        """The end for the thread stays open when the parent closes it: there is only one of it."""
        ours, theirs = Pipe()
        return ours, SimpleNamespace(send=theirs.send, recv=theirs.recv, close=lambda: None)

    class Process(Thread):
        kill = staticmethod(lambda: None)

        def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
            super().__init__(target=target, args=args, daemon=daemon)


class Ten:
    """Stands in for a ``Trainer`` with ten updates a second."""

    def __init__(self, cell: str, device: str) -> None:
        if cell == "bad":
            raise torch.OutOfMemoryError("no memory is left\nfor it")

    def losses(self, updates: int) -> None:
        pass

    def run(self, seconds: float) -> tuple[int, float]:
        return 20, 2.0


def test_rates_of_cells_at_once_add_up_and_an_error_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "get_context", InThreads)
    monkeypatch.setattr(cells, "Trainer", Ten)
    monkeypatch.setattr(cells, "paper_cell", lambda backbone, settings, graphs: backbone)
    found: list[dict[str, Any]] = []
    settings = replace(TINY, backbones=("mlp", "bad", "gloma"), counts=(1, 2, 4))
    packing.measure_packing(settings, found.append, 60)
    packed = [(one["backbone"], one["count"], one["updates_per_s"]) for one in found if one["kind"] == "packed"]
    assert packed == [("mlp", 1, 10), ("mlp", 2, 20), ("mlp", 4, 40), ("gloma", 4, 40)]
    assert [one["error"] for one in found if one["kind"] == "error"] == [
        "bad: OutOfMemoryError: no memory is left for it"
    ]
    found.clear()
    packing.measure_packing(settings, found.append, 1)
    assert [one["error"] for one in found] == ["no time was left for mlp"]


def test_an_error_of_one_backbone_is_said_and_the_next_one_is_measured() -> None:
    settings, found = replace(TINY, backbones=("nobody", "mlp")), list[dict[str, Any]]()
    compare_graphs(settings, found.append, 60)
    assert "unknown backbone 'nobody'" in found[0]["error"]
    assert (found[1]["backbone"], found[1]["plain_repeats"]) == ("mlp", True)
    assert "equal_bits" not in found[1], "there are no graphs on a CPU"


def test_the_simulator_is_timed_for_each_robot() -> None:
    found: list[dict[str, Any]] = []
    measure_simulator(TINY, found.append, 60)
    assert [one["environment"] for one in found] == ["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4"]
    assert all(1e-6 < one["seconds"] < 0.1 for one in found)


def test_without_a_simulator_one_finding_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    found: list[dict[str, Any]] = []
    measure_simulator(TINY, found.append, 60)
    assert [one["kind"] for one in found] == ["no simulator"]
    assert "mujoco" in found[0]["reason"]


def test_stages_that_fail_or_have_no_time_are_named_and_the_status_is_1(ran: tuple[int, Path]) -> None:
    code, out = ran
    assert code == 1
    page = (out / "report.md").read_text(encoding="utf-8")
    assert "| unknown | failed |" in page
    assert "KeyError: 'unknown'" in page
    assert f"| speed | {SKIPPED} |" in page
    assert sorted(path.name for path in out.iterdir()) == ["log.txt", "report.json", "report.md"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_how_to_rehearse(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "report")]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "sees no GPU; rehearse with make gpu DEVICE=cpu" in said
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--device", "tpu"], "unknown device 'tpu'; give cuda, or cpu"),
        (["--seconds", "1"], "--seconds 1: give 20 to 3600"),
        (["--device", "cpu", "--out", "/dev/null/x"], "cannot write to /dev/null/x"),
    ],
)
def test_a_mistake_in_the_call_is_one_line(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_the_gpu_works_where_kernels_run_and_not_in_ranges_that_somebody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def event(name: str, start: float, end: float, device: str = "CUDA", named: bool = False) -> SimpleNamespace:
        kind = getattr(torch._C._autograd.DeviceType, device)
        span = SimpleNamespace(start=start, end=end)
        return SimpleNamespace(name=name, device_type=kind, time_range=span, is_user_annotation=named)

    seen = [
        event("gemm", 0, 40), event("copy", 30, 50), event("softmax", 90, 100),
        event("cudaLaunchKernel", 0, 100, device="CPU"), event("Optimizer.step#AdamW.step", 0, 100),
        event("mine", 0, 100, named=True),
    ]  # fmt: skip
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: nullcontext(SimpleNamespace(events=lambda: seen)))
    runs: list[int] = []
    assert busy_seconds(lambda: runs.append(1), 2) == (pytest.approx(30e-6), 1.5)
    assert runs == [1]
    seen.clear()
    with pytest.raises(RuntimeError, match="recorded no kernel"):
        busy_seconds(lambda: None, 2)


def test_overlapping_kernels_count_once() -> None:
    assert covered([(5, 7), (0, 2), (1, 3), (1.5, 2), (7, 8)]) == 6
    assert covered([]) == 0


@pytest.mark.parametrize(
    ("again", "graphed", "equal", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], True, ""),
        ([1.0, 2.0], [1.0, 2.0001], False, "those without repeat their bits"),
        ([1.0, 2.0001], [1.0, 2.0002], False, ""),
        ([1.0, 2.0001], [1.0, 2.1], False, "allowed 1e-03"),
        ([1.0, 2.0001], [1.0, math.nan], False, "allowed 1e-03"),
    ],
)
def test_graphs_must_have_equal_bits_where_plain_updates_do(
    again: list[float], graphed: list[float], equal: bool, error: str
) -> None:
    found = verdict([1.0, 2.0], again, graphed)
    assert found["equal_bits"] is equal
    assert error in found.get("error", "")
    assert bool(error) == ("error" in found)


def test_the_first_backbone_is_packed_at_every_count_and_the_others_at_the_ends() -> None:
    settings = Settings(backbones=("gloma", "mlp"))
    assert phases(settings) == [
        ("gloma", True, (1, 2, 4, 8)),
        ("gloma", False, (1, 2, 4, 8)),
        ("mlp", True, (1, 8)),
        ("mlp", False, (8,)),
    ]


def test_results_of_tests_are_counted_and_failed_ones_named(tmp_path: Path) -> None:
    cases = (
        '<testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase><testcase name="d"><error/></testcase>'
    )
    (tmp_path / "x.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    found = read_results(tmp_path / "x.xml")
    assert found == {"passed": 1, "skipped": 1, "failed": ["b", "d"]}


def test_tests_that_were_ended_are_counted_by_what_they_printed() -> None:
    text = """
tests/a.py::test_one[1] PASSED                   [ 10%]
[gw0] [ 20%] PASSED tests/a.py::test_two
[gw1] [ 30%] FAILED tests/a.py::test_three[x-2]
tests/a.py::test_four[1] SKIPPED (no GPU)        [ 40%]
tests/a.py::test_fi"""
    assert read_output(text) == {"passed": 2, "skipped": 1, "failed": ["test_three[x-2]"]}


def test_the_page_of_a_gpu_shows_waits_graphs_packing_and_hours(tmp_path: Path) -> None:
    cell = {"kind": "cell", "updates_per_s": 250.0, "tokens_per_s": 960_000.0, "peak_mb": 321.0,
            "checkpoint_seconds": 0.05, "planned_updates": 100_000, "planned_evaluations": 10, "episodes": 100,
            "targets": 2, "max_steps": 1000}  # fmt: skip
    found: list[dict[str, Any]] = [
        cell,
        {"kind": "busy", "busy_seconds": 1e-3, "kernels": 400.0, "updates_per_s": 250.0, "waits": 0.75},
        {"kind": "decision", "batch": 100, "seconds": 0.003},
        {"kind": "graphs", "updates": 30, "plain_repeats": True, "equal_bits": True, "largest_difference": 0.0},
        {"kind": "packed", "graphs": True, "count": 1, "updates_per_s": 900.0},
        {"kind": "packed", "graphs": True, "count": 8, "updates_per_s": 1800.0},
    ]
    results = [Result("cells", findings=[{**one, "backbone": "gloma"} for one in found])]
    settings = Settings(backbones=("gloma",))
    table = hours.extrapolate(results, settings)
    made = report.content({"device": "Example GPU"}, settings, results, table, 12.3)
    assert made["rehearsal"] is False
    _, page = report.write(made, table, results, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert report.REHEARSAL not in text
    row = "| gloma | 250 | 960,000 | 321 | 75 % | 400 | 900 | ×3.60 | equal bits, 30 updates |"
    assert row in text
    assert "| gloma | yes | 900 | 1,800 | ×2.00 |" in text
    assert "| gloma | 8 | yes | 1,800 | 180 % |" in text
    assert f"would take {table.hours:.2f} GPU-hours. The goal is 1: met." in text
    assert f"Training alone would take {27 * 100_000 * 1e-3 / 3600:.2f} GPU-hours" in text
