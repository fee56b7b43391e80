"""What a study is: a question, the cells that answer it, and a reading of their records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.benchmarks.plan.compose import check_models, plan
from backbench.benchmarks.plan.request import Request
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from backbench.benchmarks.plan.settings import Cell

SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "open"


@dataclass(frozen=True)
class Arm:
    """What is compared: a backbone under some settings."""

    name: str  # in tables and pictures
    backbone: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Cells of one suite: arms x tasks x seeds."""

    suite: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()  # of every arm

    def request(self, arm: Arm, preset: str) -> Request:
        return Request(
            (arm.backbone,), self.suite, preset, self.tasks, self.seeds, overrides=(*self.overrides, *arm.overrides)
        )


@dataclass(frozen=True)
class Cells:
    """The cells of a study."""

    cells: Mapping[Arm, Sequence[Cell]]
    skipped: Mapping[Arm, str]  # arms that cannot run, and why

    @property
    def every(self) -> list[Cell]:
        return [cell for cells in self.cells.values() for cell in cells]


@dataclass(frozen=True)
class Table:
    """Numbers of a report; also a CSV file."""

    name: str  # of the file
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[object]]  # the first column names a row; floats are shown with ``digits``
    digits: int = 1


@dataclass(frozen=True)
class Picture:
    """A picture of a report, as SVG and PNG."""

    name: str  # of the files
    about: str  # for those who do not see it
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (7.0, 4.0)  # inches


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what the records say of it."""

    says: str
    verdict: str  # SUPPORTED, CONTRADICTED or OPEN
    result: str  # with its interval
    change: str  # what would change the verdict


@dataclass(frozen=True)
class Reading:
    """What a study found."""

    claims: Sequence[Claim] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = field(default_factory=tuple)  # what can be concluded, and what cannot


@dataclass(frozen=True)
class Study:
    """One ``bench study``."""

    name: str
    question: str
    parts: Callable[[str], Sequence[Part]]  # of a preset
    smallest: Callable[[Sequence[Part]], str]  # the smallest effect that it can detect, in a sentence
    read: Callable[[Records], Reading]
    reads_any: bool = False  # whether it reads any records with checkpoints, not only those of its own cells


@dataclass(frozen=True)
class Records:
    """The finished records of a study, by arm."""

    by_arm: Mapping[Arm, Sequence[Record]]
    folder: Path  # of results, with their checkpoints

    def arms(self) -> list[Arm]:
        """Those with a record."""
        return [arm for arm, records in self.by_arm.items() if records]

    def scores(self, arm: Arm) -> dict[str, dict[int, float]]:
        """``suite/task`` -> seed -> normalised score of the last checkpoint at the headline target."""
        found: dict[str, dict[int, float]] = {}
        for record in self.by_arm[arm]:
            if record.scores is not None:
                value = record.scores.last.targets[0].normalised_mean
                task = f"{record.identity.suite}/{record.identity.task}"
                found.setdefault(task, {})[record.identity.seed] = value
        return found


def cells_of(parts: Sequence[Part], preset: str) -> Cells:
    """The cells of ``parts``. An arm that cannot run is skipped with its reason.

    Raises ``UserError`` if no arm can run.
    """
    cells: dict[Arm, list[Cell]] = {}
    skipped: dict[Arm, str] = {}
    for part in parts:
        for arm in part.arms:
            try:
                made = plan(part.request(arm, preset))
                check_models(made)
            except UserError as error:
                skipped[arm] = str(error)
            else:
                cells.setdefault(arm, []).extend(made)
    if not cells:
        raise UserError(next(iter(skipped.values())))
    return Cells({arm: made for arm, made in cells.items() if arm not in skipped}, skipped)


def pictured(figure: Figure, **labels: Any) -> Any:
    """The one pair of axes of ``figure``, with its labels and without a box."""
    axes = figure.add_subplot()
    axes.set(**labels)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
