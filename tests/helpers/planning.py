"""Cells from the words of a command, written short."""

from __future__ import annotations

from collections.abc import Sequence

from backbench.benchmarks.plan.compose import plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell

GYM_ONLY = [
    (suite, "paper-decision-mamba") for suite in ("atari", "atari-1frame")
]  # a preset that has no settings for them


def cells(
    backbones: Sequence[str],
    suite: str,
    preset: str,
    seeds: Sequence[int],
    tasks: Sequence[str] = (),
    source: str | None = None,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """The planned cells."""
    return plan(Request(tuple(backbones), suite, preset, tuple(tasks), tuple(seeds), source, tuple(overrides)))
