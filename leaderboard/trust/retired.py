"""Records that were retired: removed from the leaderboard, with the reason, because their data's version is gone."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.record.published import Published

_NEEDED = ("key", "reason")


def parse_retired(text: str, path: Path) -> dict[str, str]:
    """Key of a record -> why it was retired, from the text of ``retired.csv``; ``path`` is named in errors.

    Raises ``RecordError`` for a missing column, a row without key or reason, and a key that is listed twice.
    """
    lines = csv.DictReader(text.splitlines())
    if missing := [name for name in _NEEDED if name not in (lines.fieldnames or ())]:
        raise RecordError(path, f"has no column {missing[0]!r}", "restore it: git checkout")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        key, reason = ((line[name] or "").strip() for name in _NEEDED)
        if not key or not reason:
            raise RecordError(path, f"line {number} lacks a key or a reason", "write both")
        if key in found:
            raise RecordError(path, f"line {number} lists {key} again", "remove the line")
        found[key] = reason
    return found


def read_retired(published: Published) -> dict[str, str]:
    """Key of each retired record -> reason; empty where there is no list. Raises as ``parse_retired`` does."""
    path = published.retired
    try:
        return parse_retired(path.read_text(encoding="utf-8"), path) if path.exists() else {}
    except UnicodeDecodeError:
        raise RecordError(path, "is not UTF-8 text", "restore it: git checkout") from None


def wrongly_retired(published: Published) -> Iterator[str]:
    """What is wrong with the list of retired records, a line each. Such a record must not be published any more."""
    try:
        retired = read_retired(published)
    except RecordError as error:
        yield str(error)
        return
    there = {path.stem: path for path in sorted(published.records.rglob("*.json"))}
    for key in retired:
        if key in there:
            yield f"{published.retired}: lists {key}, and {there[key]} is there; remove the file or the line"
