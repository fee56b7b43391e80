"""Where a leaderboard's files lie: records, and beside them verifications, pages and the list of retired records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("leaderboard/published/records")
"""The committed records, below the root of the repository."""


@dataclass(frozen=True)
class Published:
    """The folders of one leaderboard."""

    records: Path

    @classmethod
    def around(cls, given: Path) -> Published:
        """The leaderboard of ``given``, which is its folder of records or the folder that holds it."""
        return cls(given / "records" if (given / "records").is_dir() else given)

    @property
    def verifications(self) -> Path:
        return self.records.parent / "verifications"

    @property
    def pages(self) -> Path:
        return self.records.parent / "pages"

    @property
    def retired(self) -> Path:
        return self.records.parent / "retired.csv"
