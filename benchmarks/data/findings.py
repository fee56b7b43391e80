"""Findings about a data set, a few lines of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
LINES = 5  # shown of each kind; the others are counted


@dataclass(frozen=True)
class Finding:
    """One line about a data set. An error makes it unusable. A warning is for the user to judge."""

    level: Level
    message: str


class Findings:
    """Messages by kind, so that one fault in every episode does not hide the others."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Level, str], list[str]] = {}

    def error(self, kind: str, message: str) -> None:
        """Add an error."""
        self._kinds.setdefault(("error", kind), []).append(message)

    def warning(self, kind: str, message: str) -> None:
        """Add a warning."""
        self._kinds.setdefault(("warning", kind), []).append(message)

    def lines(self) -> list[Finding]:
        """All findings, errors first."""
        found = []
        for (level, kind), messages in sorted(self._kinds.items(), key=lambda item: item[0][0]):
            more = [f"and {len(messages) - LINES} more: {kind}"] if len(messages) > LINES else []
            found += [Finding(level, message) for message in messages[:LINES] + more]
        return found
