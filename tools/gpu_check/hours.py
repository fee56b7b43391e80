"""From what was measured to GPU-hours of the paper's Gym table: every backbone on nine tasks with three seeds.

Of a backbone's cells, n run at once. Together they do R updates a second. A cell's checkpoints and evaluations take
its own process S seconds, in which the others train on. So all its C cells of U updates take

    C * (U / R + S / n) / 3600 hours,   S = U / every * checkpoint + evaluation

An evaluation of E episodes with steps of at most T takes T * (decision for E states + E * step of one environment).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpu_check.settings import GOAL, SEEDS, Settings
from gpu_check.stages import Result

TASKS = 9
# A step of one environment where no simulator is installed: mean of the three, measured on a core of an AMD EPYC with
# Gymnasium 1.4 and mujoco 4.0 (HalfCheetah-v4 43, Hopper-v4 108, Walker2d-v4 116 microseconds).
STEP = 90e-6


@dataclass(frozen=True)
class Way:
    """A way to run a backbone's cells."""

    backbone: str
    graphs: bool
    count: int  # cells at once
    updates_per_s: float  # of all together
    train_hours: float
    rest_hours: float  # checkpoints and evaluations

    @property
    def hours(self) -> float:
        """Of all cells of the backbone."""
        return self.train_hours + self.rest_hours


@dataclass(frozen=True)
class Table:
    """What the paper's table would take."""

    best: tuple[Way, ...]  # of each backbone that was measured
    missing: tuple[str, ...]  # backbones that were not
    step_seconds: float  # of one environment
    step_source: str
    waits_never: float | None  # GPU-hours of training if the GPU never waited; None unless all were profiled

    @property
    def hours(self) -> float:
        """GPU-hours of the backbones that were measured."""
        return sum(way.hours for way in self.best)

    @property
    def met(self) -> bool | None:
        """Whether that is at most the goal; None if a backbone is missing and the others are below it."""
        if self.hours > GOAL:
            return False
        return None if self.missing else True


def extrapolate(results: Sequence[Result], settings: Settings) -> Table:
    """The best way of each backbone among those that were measured, and their sum."""
    every = [finding for result in results for finding in result.findings]
    steps = [one["seconds"] for one in every if one["kind"] == "step"]
    step = sum(steps) / len(steps) if steps else STEP
    best, missing, floors = [], [], []
    for backbone in settings.backbones:
        mine = [one for one in every if one.get("backbone") == backbone]
        cell = next((one for one in mine if one["kind"] == "cell"), None)
        decisions = {one["batch"]: one["seconds"] for one in mine if one["kind"] == "decision"}
        if cell is None or not decisions:
            missing.append(backbone)
            continue
        rest = rest_seconds(cell, decisions, step, settings.checkpoint_every)
        packed = [one for one in mine if one["kind"] == "packed"]
        alone = {"graphs": False, "count": 1, "updates_per_s": cell["updates_per_s"]}
        best.append(min((_way(backbone, one, cell, rest) for one in (alone, *packed)), key=lambda way: way.hours))
        floors += [TASKS * SEEDS * cell["planned_updates"] * one["busy_seconds"] / 3600
                   for one in mine if one["kind"] == "busy"]  # fmt: skip
    source = "measured here" if steps else "measured elsewhere, on one core of an AMD EPYC"
    never = sum(floors) if len(floors) == len(settings.backbones) else None
    return Table(tuple(best), tuple(missing), step, source, never)


def rest_seconds(cell: dict[str, Any], decisions: dict[int, float], step: float, every: int) -> float:
    """Seconds of a cell that are no updates: its checkpoints, and its evaluations. The last one plays all targets."""

    def evaluation(episodes: int) -> float:
        decision = decisions.get(episodes) or max(decisions.values())
        return float(cell["max_steps"] * (decision + episodes * step))

    checkpoints = cell["planned_updates"] / every * cell["checkpoint_seconds"]
    between = (cell["planned_evaluations"] - 1) * evaluation(cell["episodes"])
    return float(checkpoints + between + evaluation(cell["episodes"] * cell["targets"]))


def _way(backbone: str, one: dict[str, Any], cell: dict[str, Any], rest: float) -> Way:
    cells, rate, count = TASKS * SEEDS, one["updates_per_s"], one["count"]
    trained = cells * cell["planned_updates"] / rate / 3600
    return Way(backbone, one["graphs"], count, rate, trained, cells * rest / count / 3600)
