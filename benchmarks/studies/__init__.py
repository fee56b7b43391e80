"""Studies: a declared grid, a reading of its records, a report."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backbench.benchmarks.studies.study import Study


def _lazy(module: str) -> Callable[[], Study]:
    """The study in ``module``, whose name in capitals is that of its first folder or file."""
    name = module.partition(".")[0].upper()
    return lambda: getattr(import_module(f"backbench.benchmarks.studies.{module}"), name)


STUDIES: dict[str, Callable[[], Study]] = {
    module.partition(".")[0]: _lazy(module) for module in ("ablation", "context", "reach.study", "scaling", "targets")
}
