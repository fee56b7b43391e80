"""The reports of studies that are published beside the records: Markdown and its pictures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backbench import reading
from backbench.leaderboard.record.files import RecordError

MOST = 4 * reading.MB  # bytes of a report, or of a picture; the largest has 0.2 MB
_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")
_REMEDY = "restore it: git checkout, or write it again: bench study"


@dataclass(frozen=True)
class Report:
    """What ``bench study`` wrote."""

    name: str
    text: str  # Markdown
    pictures: Mapping[str, str] = field(default_factory=dict)  # name of the file -> SVG


def reports_of(folder: Path) -> list[Report]:
    """The reports ``folder/NAME/report.md`` with their SVG files, by name. Raises ``RecordError`` for a broken one."""
    found = []
    for path in sorted(folder.glob("*/report.md")):
        if not _NAME.fullmatch(path.parent.name):
            raise RecordError(path, "its folder has no name of a study", "rename the folder")
        pictures = {one.name: _text(one) for one in sorted(path.parent.glob("*.svg"))}
        found.append(Report(path.parent.name, _text(path), pictures))
    return found


def _text(path: Path) -> str:
    try:
        return reading.text(path, MOST)
    except reading.ReadingError as error:
        raise RecordError(path, error.problem, _REMEDY) from None
