"""Records of a folder, and their board: ``backbench.load_records`` and ``backbench.board``."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from backbench import storage, terminal
from backbench.errors import UserError
from backbench.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backbench.benchmarks.plan.settings import Cell
    from backbench.leaderboard.board.board import Board, Section
    from backbench.leaderboard.record.schema import Record

WIDTH = 120  # columns of a board as text


def load_records(folder: str | Path = "results") -> list[Record]:
    """The records of a folder of results, of its address, or of a folder of records, by the names of their files.

    Failed cells have ``status == "failed"`` and no scores. A file that cannot be read is skipped with a warning that
    says why.

        for record in backbench.load_records("results"):
            print(record.key, record.scores.last.targets[0].normalised_mean if record.scores else "failed")

    Raises:
        UserError: there is no such folder, or no record in it can be read.
    """
    found, problems = _load(storage.pull(folder))
    if not found:
        raise UserError(problems[0] if problems else f"no records in {folder}; run some cells, or name another folder")
    for problem in problems:
        warnings.warn(f"skipped: {problem}", stacklevel=2)
    return found


class Shown:
    """A board that prints as ``bench leaderboard`` does, and shows in a notebook.

    ``sections`` has the numbers: one ``Section`` of ``backbench.leaderboard.board.board`` for each table.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        from backbench.leaderboard.board.board import build_board

        self.records = tuple(records)
        self.sections: Sequence[Section] = build_board(self.records).sections

    def __str__(self) -> str:
        """Tables of ``WIDTH`` columns."""
        import io

        console = terminal.console(file=io.StringIO(), width=WIDTH)
        console.print(printed(self.records, WIDTH))
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    def __repr__(self) -> str:
        return f"<board of {len(self.records)} records; print it>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def board(records: str | Path | Sequence[Record] = "results") -> Shown:
    """The board of a folder's records, or of these: rows are backbones, scores are normalised.

        print(backbench.board("results"))

    Raises:
        UserError: as ``load_records``.
    """
    return Shown(load_records(records) if isinstance(records, str | Path) else records)


def scores(sections: Sequence[Section]) -> list[list[list[str]]]:
    """The scores of each section as lines of words: tasks, and a column for each row of the board."""
    found = []
    for section in sections:
        lines = [[section.setting.suite, *(row.label for row in section.rows)]]
        for task in (task for task in section.tasks if any(task in row.scores for row in section.rows)):
            values = [row.scores.get(task) for row in section.rows]
            lines.append([task, *("" if one is None else f"{one.value:.1f}" for one in values)])
        lines.append(
            ["seeds", *(str(len({seed for one in row.scores.values() for seed in one.seeds})) for row in section.rows)]
        )
        found.append([[plain(word) for word in line] for line in lines])
    return found


def alike(cell: Cell, folder: Path, silent: bool = False) -> tuple[list[Record], int]:
    """The records in a folder of results that stand on one board with ``cell``, and the number of broken ones."""
    records, broken = read_records(folder, silent)
    wanted = (cell.task.suite, cell.preset, cell.data.source)
    same = [r for r in records if (r.identity.suite, r.identity.preset, r.identity.source) == wanted]
    return same, broken


def read_records(folder: Path, silent: bool = False) -> tuple[list[Record], int]:
    """The good records below ``folder`` (of results, or of records) and the number of broken ones, each named."""
    good, problems = _load(folder)
    for problem in () if silent else problems:
        terminal.line(f"bench: {problem}", error=True)
    return good, len(problems)


def printed(records: Sequence[Record], width: int) -> RenderableType:
    """The board of these records for a terminal."""
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.views.text import to_rich

    # Papers' scores on other data say little beside a fresh run; `bench leaderboard` shows them.
    return to_rich(build_board(records), width, published=False, beside=_committed())


@cache
def _committed() -> Board | None:
    """The committed board of a clone; it tells how far seeds lie apart."""
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.record.files import COMMITTED
    from backbench.leaderboard.record.files import load_records as load

    return build_board(load(COMMITTED)[0]) if COMMITTED.is_dir() else None


def _load(folder: Path) -> tuple[list[Record], list[str]]:
    from backbench.leaderboard.record.files import load_records as load

    inside = folder / "records"
    good, bad = load(inside if inside.is_dir() else folder)
    return good, [str(error) for error in bad]
