"""Whether the seeds that a second machine ran agree with a row: the verdict on a row of the board.

Bits of training hold on one kind of machine only, so machines are compared by statistics.
``docs/explanation/verify.md`` has the reasons for margin and level, and what a verdict does not say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.statistics import difference_interval

MARGIN = 3.0  # normalised score: below it a difference between two machines is too small to matter
LEVEL = 0.90  # of the interval: its ends are those of two one-sided tests at 5 % (Schuirmann 1987)


@dataclass(frozen=True)
class Agreement:
    """The mean over tasks on a first machine, and on others that ran other seeds, in normalised scores."""

    seeds: tuple[int, int]  # numbers of seeds: the first machine's, the others'
    difference: float  # the others' mean minus the first one's
    low: float  # ends of the 90 % interval of ``difference``
    high: float

    @property
    def verdict(self) -> str:
        """``verified``, ``consistent`` or ``different``, see the function of that name."""
        return verdict(self.low, self.high)

    @property
    def said(self) -> str:
        """The difference with its interval, and the seeds on each side."""
        first, others = self.seeds
        span = f"90 % interval {self.low:+.1f} to {self.high:+.1f}, margin {MARGIN:g}"
        return f"{self.verdict}: difference {self.difference:+.1f} ({span}; {first} seeds against {others})"


def verdict(low: float, high: float) -> str:
    """``verified``: the whole interval lies within the margin. ``consistent``: it does not, but holds 0.
    ``different``: neither."""
    if low > -MARGIN and high < MARGIN:
        return "verified"
    return "consistent" if low <= 0 <= high else "different"


def agreement(first: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> Agreement | None:
    """Compare normalised scores (seeds, tasks) of the same tasks; None where one side has fewer than two seeds.
    The mean of a seed over its tasks is one observation: tasks of one seed may fail together."""
    if min(len(first), len(others)) < 2:
        return None
    ours, theirs = ([fmean(row) for row in side] for side in (first, others))
    low, high = difference_interval(ours, theirs, LEVEL)
    return Agreement((len(ours), len(theirs)), fmean(theirs) - fmean(ours), low, high)


def machines(used: Sequence[Record]) -> list[tuple[object, ...]]:
    """The kinds of machines that made records, by first start."""
    ordered = sorted(used, key=lambda one: (one.provenance.started, one.key))
    return list(dict.fromkeys(record.provenance.machine for record in ordered))


def on_one_machine(used: Sequence[Record]) -> list[Record]:
    """The records of the kind of machine that made most of them, the earliest of equal ones: their costs compare."""
    count = Counter(record.provenance.machine for record in used)
    most = max(machines(used), key=lambda machine: count[machine], default=None)
    return [record for record in used if record.provenance.machine == most]


def across(seeds: Mapping[int, Sequence[Record]], matrix: Sequence[Sequence[float]]) -> Agreement | None:
    """The agreement between the machine with most seeds of a row (the earliest of equal ones) and all others.
    ``seeds``: seed -> its records, one a task, in the order of the rows of ``matrix``. A seed whose tasks ran on two
    machines belongs to neither. None for a single machine, or where one side has fewer than two seeds."""
    known = machines([record for records in seeds.values() for record in records])
    sides: dict[tuple[object, ...], list[Sequence[float]]] = {machine: [] for machine in known}
    for records, scores in zip(seeds.values(), matrix, strict=True):
        made_on = {record.provenance.machine for record in records}
        if len(made_on) == 1:
            sides[made_on.pop()].append(scores)
    if len(sides) < 2:
        return None
    first = max(known, key=lambda machine: len(sides[machine]))  # of equal ones the first
    return agreement(sides[first], [row for machine in known if machine != first for row in sides[machine]])
