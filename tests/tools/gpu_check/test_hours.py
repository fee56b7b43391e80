"""From updates a second to GPU-hours of the paper's table."""

from __future__ import annotations

from typing import Any

import pytest
from gpu_check.hours import STEP, extrapolate, rest_seconds
from gpu_check.settings import Settings
from gpu_check.stages import Result

CELL: dict[str, Any] = {
    "kind": "cell", "updates_per_s": 100.0, "checkpoint_seconds": 0.1, "planned_updates": 100_000,
    "planned_evaluations": 10, "episodes": 100, "targets": 2, "max_steps": 1000,
}  # fmt: skip
# A checkpoint every 1,000 updates: 100 x 0.1 s. Nine evaluations of 100 episodes: 9 x 1,000 x (5 ms + 100 x 50 µs).
# The last one of 200: 1,000 x (8 ms + 200 x 50 µs).
REST = 10 + 90 + 18


def results(backbone: str, *packed: tuple[int, bool, float], busy: float | None = None) -> Result:
    found: list[dict[str, Any]] = [
        CELL,
        {"kind": "decision", "batch": 100, "seconds": 0.005},
        {"kind": "decision", "batch": 200, "seconds": 0.008},
        *({"kind": "packed", "count": n, "graphs": graphs, "updates_per_s": rate} for n, graphs, rate in packed),
    ]
    if busy is not None:
        found.append({"kind": "busy", "busy_seconds": busy})
    return Result("cells", findings=[{**one, "backbone": backbone} for one in found])


def simulator(seconds: float) -> Result:
    return Result("simulator", findings=[{"kind": "step", "environment": "x", "seconds": seconds}])


def test_a_cell_also_writes_checkpoints_and_evaluates() -> None:
    assert rest_seconds(CELL, {100: 0.005, 200: 0.008}, 50e-6, 1000) == pytest.approx(REST)


def test_one_cell_after_the_other_adds_everything() -> None:
    table = extrapolate([results("mlp"), simulator(50e-6)], Settings(backbones=("mlp",)))
    (way,) = table.best
    assert (way.graphs, way.count) == (False, 1)
    assert way.train_hours == pytest.approx(27 * 1000 / 3600)
    assert way.rest_hours == pytest.approx(27 * REST / 3600)
    assert table.hours == pytest.approx(27 * (1000 + REST) / 3600)
    assert (table.met, table.step_source, table.waits_never) == (False, "measured here", None)


def test_the_best_packing_counts_what_is_no_training_once_for_each_cell_at_once() -> None:
    packed = ((4, False, 300.0), (8, False, 310.0), (4, True, 2000.0), (1, True, 1990.0))
    table = extrapolate([results("mlp", *packed), simulator(50e-6)], Settings(backbones=("mlp",)))
    (way,) = table.best
    assert (way.graphs, way.count, way.updates_per_s) == (True, 4, 2000.0)
    assert way.hours == pytest.approx(27 * (100_000 / 2000 + REST / 4) / 3600)
    assert table.met is True


def test_more_at_once_can_be_better_at_an_equal_rate() -> None:
    table = extrapolate([results("mlp", (2, True, 900.0), (8, True, 900.0))], Settings(backbones=("mlp",)))
    assert table.best[0].count == 8


def test_without_a_simulator_a_step_measured_elsewhere_is_used_and_named() -> None:
    nothing = Result("simulator", findings=[{"kind": "no simulator", "reason": "No module named 'gymnasium'"}])
    table = extrapolate([results("mlp"), nothing], Settings(backbones=("mlp",)))
    assert table.step_seconds == STEP
    assert table.step_source.startswith("measured elsewhere")


def test_a_missing_backbone_leaves_the_goal_open_unless_the_others_miss_it() -> None:
    fast, slow = results("mlp", (8, True, 1e5)), results("mlp")
    settings = Settings(backbones=("mlp", "gloma"))
    assert [extrapolate([one], settings).met for one in (fast, slow)] == [None, False]
    assert extrapolate([fast], settings).missing == ("gloma",)
    assert extrapolate([], settings).hours == 0


def test_the_floor_is_the_time_in_which_the_gpu_works() -> None:
    found = [results("mlp", busy=1e-3), results("gloma", busy=2e-3)]
    table = extrapolate(found, Settings(backbones=("mlp", "gloma")))
    assert table.waits_never == pytest.approx(27 * 100_000 * 3e-3 / 3600)
    assert extrapolate(found[:1], Settings(backbones=("mlp", "gloma"))).waits_never is None
