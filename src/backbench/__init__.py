"""Backbench: which sequence backbone makes the best decision maker, and at what cost?

The names below are its Python API (docs/reference/python.md). Each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbench.benchmarks.api.agents import from_pretrained, load_agent
    from backbench.benchmarks.api.boards import board, load_records
    from backbench.benchmarks.api.models import make_backbone, register
    from backbench.benchmarks.api.player import Player
    from backbench.benchmarks.api.runs import Results, cell, run, run_cell
    from backbench.benchmarks.api.windows import Windows, load_windows
    from backbench.errors import UserError

__version__ = "0.2.0"
__all__ = [
    "Player", "Results", "UserError", "Windows", "board", "cell", "from_pretrained", "load_agent", "load_records", "load_windows",
    "make_backbone", "register", "run", "run_cell",
]  # fmt: skip

_MODULES = {
    "Player": "benchmarks.api.player", "Results": "benchmarks.api.runs", "UserError": "errors",
    "Windows": "benchmarks.api.windows", "board": "benchmarks.api.boards", "cell": "benchmarks.api.runs",
    "from_pretrained": "benchmarks.api.agents", "load_agent": "benchmarks.api.agents", "load_records": "benchmarks.api.boards",
    "load_windows": "benchmarks.api.windows", "make_backbone": "benchmarks.api.models",
    "register": "benchmarks.api.models", "run": "benchmarks.api.runs", "run_cell": "benchmarks.api.runs",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'backbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"backbench.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
