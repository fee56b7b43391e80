from __future__ import annotations

from collections.abc import Callable

import pytest
import record_factory

from backbench.leaderboard.record.schema import Record


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """Builds a synthetic record; see ``record_factory.make_record``."""
    return record_factory.make_record
