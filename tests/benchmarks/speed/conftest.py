"""A report that several tests read."""

from __future__ import annotations

import pytest
from speed_settings import tiny

from backbench.benchmarks.speed.report import Report
from backbench.benchmarks.speed.run import measure


@pytest.fixture(scope="session")
def report() -> Report:
    """All parts except memory, of three tiny backbones."""
    parts = ("training", "lengths", "latency", "acting", "kernels")
    return measure(tiny("transformer", "mamba", "gloma", parts=parts))
