"""Studies: a declared grid, a reading of its records, a report."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backbench.benchmarks.studies.study import Study


def _lazy(name: str) -> Callable[[], Study]:
    return lambda: getattr(import_module(f"backbench.benchmarks.studies.{name}"), name.upper())


STUDIES: dict[str, Callable[[], Study]] = {name: _lazy(name) for name in ("ablation", "targets")}
