"""Cells from the words of a command, written short."""

from __future__ import annotations

from collections.abc import Sequence

from backbench.benchmarks.plan.compose import plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell

# Suites, and a preset without settings for them.
GYM_ONLY = [("atari", "paper-decision-mamba"), ("atari-1frame", "paper-decision-mamba")]


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
