"""What the trials of a tuning scored, from their records, and which setting is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbench.benchmarks.plan.tune import Tuning
from backbench.benchmarks.run.results import failure_path, finished
from backbench.errors import UserError
from backbench.leaderboard.board import tuning as board
from backbench.leaderboard.board.tuning import tunings
from backbench.leaderboard.record.files import RecordError, load_record

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.leaderboard.record.schema import Record

Tried = Mapping[str, Sequence[tuple[str, ...]]]  # backbone -> its settings


def choose(
    asked: Tuning, results: Path, tried: Tried | None = None
) -> tuple[dict[str, tuple[str, ...]], dict[str, board.Tuning]]:
    """Backbone -> its setting, for those whose trials all ended and did not all fail; and the trials of each.
    ``tried``: the settings of each backbone, where a sampler proposed them."""
    there = asked.tried if tried is None else tried
    found = {name: one for name, one in ended(asked, results, there).items() if one.complete and one.best is not None}
    words = {" ".join(sorted(setting)): setting for settings in there.values() for setting in settings}
    return {name: words[one.best] for name, one in found.items() if one.best is not None}, found


def ended(asked: Tuning, results: Path, tried: Tried) -> dict[str, board.Tuning]:
    """Backbone -> its trials that have ended, with their scores."""
    cells = asked.trials if tried == asked.tried else asked.trials_of(tried)
    records = [found for cell in cells if (found := record_of(cell, results)) is not None]
    return {key.row[0]: one for key, one in tunings(records).items()}


def record_of(cell: Cell, results: Path) -> Record | None:
    """The record of a cell, done or failed."""
    failed = failure_path(cell, results)
    try:
        return finished(cell, results) or (load_record(failed) if failed.exists() else None)
    except RecordError as error:
        raise UserError(str(error)) from error
