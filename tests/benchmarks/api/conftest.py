"""Names that a test registers are gone after its module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backbench.backbones import BACKBONES


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BACKBONES, "_added", {})
        yield
