"""``bench verify``: does a row of the leaderboard hold on this machine, with other seeds?

Training's bits hold on one kind of machine only. So the row's cells run here with seeds that it does not have, and the
means over tasks are compared: see ``leaderboard.board.agreement``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbench import terminal
from backbench.errors import UserError, require
from backbench.leaderboard.board.agreement import agreement
from backbench.leaderboard.board.board import Row, build_board
from backbench.leaderboard.board.settings import Setting
from backbench.leaderboard.record.files import load_records
from backbench.leaderboard.record.schema import Record

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

LEAST = 2  # seeds on each side: one has no spread


@dataclass(frozen=True)
class PublishedRow:
    """The records of one row of a leaderboard, which other seeds are compared with."""

    folder: Path
    records: tuple[Record, ...]

    @classmethod
    def row_of(cls, cells: Sequence[Cell], folder: Path) -> PublishedRow:
        """The row in ``folder`` that has the settings of ``cells``, which are all of one backbone and variant.

        Raises UserError: no such folder or row, a task or a second seed missing there, or a seed that is there already.
        """
        cell = cells[0]
        inside = folder / "records" if (folder / "records").is_dir() else folder
        require(inside.is_dir(), f"no folder {folder}; call it from a clone, or name the records with --records")
        wanted = (cell.backbone, cell.variant, cell.preset, cell.task.suite, cell.data.source, cell.eval.acting)
        there = [record for record in load_records(inside)[0] if record.status == "done"]
        mine = [record for record in there if _words(record) == wanted]
        if not mine:
            beside = {_words(record)[:2] for record in there if _words(record)[2:] == wanted[2:]}
            rows = sorted(" ".join(filter(None, words)) for words in beside)
            said = f"there are {', '.join(rows)}" if rows else "it has no row of that suite, preset and data source"
            raise UserError(f"{inside} has no row {' '.join(filter(None, wanted[:2]))}; {said}")
        seeds = {record.identity.seed for record in mine}
        if again := sorted(seeds & {one.seed for one in cells}):
            known = f"seed{'s' if len(again) > 1 else ''} {', '.join(map(str, again))}"
            raise UserError(f"{known} of {cell.backbone} are in {inside} already; give others, or use bench reproduce")
        require(len(seeds) >= LEAST, f"the row has {len(seeds)} seed; it needs {LEAST} for a comparison")
        missing = sorted({one.task.name for one in cells} - {record.identity.task for record in mine})
        require(not missing, f"the row lacks {', '.join(missing)}; only a row with every task of its suite is verified")
        return cls(inside, tuple(mine))

    def check_versions(self, packages: dict[str, str]) -> None:
        """UserError if the row was made with another Backbench or simulator than ``packages``."""
        versions = dict(Setting.of(self.records[0]).versions)
        other = [name for name, wanted in versions.items() if packages.get(name) != wanted]
        then, now = (" ".join(f"{name}=={of.get(name, 'none')}" for name in other) for of in (versions, packages))
        require(not other, f"the row was made with {then}, and here is {now}; install those versions")

    def check_data(self) -> None:
        """UserError if a data set in the store has another content than the row's."""
        from backbench.benchmarks.data import store

        known = {r.identity.data.id: r.identity.data.sha256 for r in self.records if r.identity.data is not None}
        for name, wanted in known.items():
            here = store.read(name).digest if store.exists(name) else wanted
            require(
                here == wanted,
                f"data set {name} has sha256 {here[:8]} here, and the row was trained on {wanted[:8]}; bench data make "
                f"{name} --force makes it again",
            )


def _words(record: Record) -> tuple[str, ...]:
    cell = record.identity
    return cell.backbone, cell.variant, cell.preset, cell.suite, cell.source, record.protocol.acting


def compare(published: PublishedRow, new: Sequence[Record]) -> int:
    """Print the verdict on a row, given the new records of the same row. The exit status: 1 if they differ."""
    rows = [_row(records) for records in (published.records, new)]
    joint = build_board([*published.records, *new]).sections
    if len(joint) != 1 or len(joint[0].rows) != 1:
        why = "; ".join(joint[1].apart) if len(joint) > 1 else "options or size of the model differ"
        raise UserError(f"the new records are not of the row in {published.folder}: {why}")
    row, (theirs, ours) = joint[0].rows[0], rows
    for task, score in theirs.scores.items():
        if (here := ours.scores.get(task)) is not None:
            difference = here.value - score.value
            terminal.line(f"{task}: {score.value:.1f} published, {here.value:.1f} here, difference {difference:+.1f}")
    if row.agreement is not None:
        terminal.line(row.agreement.said)
        return int(row.agreement.verdict == "different")
    terminal.line(_same_machine(theirs, ours) if row.machines == 1 else "no verdict: one side has fewer than two seeds")
    return 0


def _row(records: Sequence[Record]) -> Row:
    (section, *_) = build_board(records).sections
    return section.rows[0]


def _same_machine(theirs: Row, ours: Row) -> str:
    """What other seeds say that ran on the same kind of machine."""
    found = agreement(theirs.matrix, ours.matrix)
    said = "one side has fewer than two seeds" if found is None else found.said
    return f"the same kind of machine as the row's, so the board does not count it: {said}"
