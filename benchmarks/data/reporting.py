"""How long operations tell what they do. Imports nothing, so that option lists stay fast."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]  # receives one line of text
Progress = Callable[[int, int | None], None]  # receives the bytes done, and the total where it is known


def no_progress(done: int, total: int | None) -> None:
    """Show nothing."""
