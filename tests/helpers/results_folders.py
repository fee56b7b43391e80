"""Folders of results with given records, and what a folder holds."""

from __future__ import annotations

from pathlib import Path

from backbench.leaderboard.record.files import dump_record
from backbench.leaderboard.record.schema import Record


def results_of(folder: Path, *records: Record) -> Path:
    for record in records:
        dump_record(record, folder / "records" / f"{record.key}.json")
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
