"""What a call of ``bench`` in this process answers. The fixture ``call`` is in tests/benchmarks/cli/conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]
