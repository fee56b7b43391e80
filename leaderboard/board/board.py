"""From records to tables: a pure function of the records, in any order, without a clock, a file or a random seed.

Rows are backbones, columns tasks. A row that lacks a task of its suite has no aggregate; what is missing is named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from backbench.leaderboard.board.settings import (
    Group,
    RowId,
    Setting,
    TaskSetting,
    comparable_groups,
    differences,
    measured,
    row_labels,
    unlike,
)
from backbench.leaderboard.record.schema import Cost, Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import AGGREGATES, Estimate, Interval, estimate, interval, iqm, mean

# Counted, not measured: in full, where a measured cost has four digits.
COUNTED = frozenset({"parameters", "parameters_backbone", "flops_per_token"})
# Name -> where a record's cost has it. Parameters of the whole agent and of its backbone; operations of a forward pass
# per token; tokens per second of training; time of a decision for a batch of environments, in milliseconds; peak
# memory in megabytes; wall time of the cell in seconds.
COSTS: dict[str, Callable[[Cost], float | None]] = {
    "parameters": lambda cost: cost.parameters_total,
    "parameters_backbone": lambda cost: cost.parameters_backbone,
    "flops_per_token": lambda cost: cost.flops_per_token,
    "train_tokens_per_s": lambda cost: cost.train_tokens_per_s,
    "decision_p50_ms": lambda cost: cost.decision.p50_ms,
    "decision_p95_ms": lambda cost: cost.decision.p95_ms,
    "peak_memory_mb": lambda cost: cost.peak_memory_mb,
    "wall_seconds": lambda cost: cost.wall_seconds,
}


@dataclass(frozen=True)
class Score:
    """A row's score on one task: last checkpoint, first target."""

    value: float
    """Mean over seeds, in normalised points."""
    interval: Interval | None
    """Of ``value``; None for one seed with one episode."""
    seeds: tuple[int, ...]
    """Seeds it is a mean of."""
    values: tuple[float, ...]
    """Score of each seed, in points."""
    data_ratio: float | None
    """``value`` over the data set's own mean score; None where that mean is not positive, or not known."""
    raw: float
    """Mean return over seeds, raw."""


@dataclass(frozen=True)
class Row:
    """One backbone under one setting."""

    label: str
    row: RowId
    scores: Mapping[str, Score]
    """Task -> score; a task without a finished cell is not in it."""
    missing: tuple[str, ...]
    """Tasks of the suite without a score."""
    seeds: tuple[int, ...]
    """Seeds that have all tasks of the suite."""
    matrix: tuple[tuple[float, ...], ...]
    """(seeds, tasks of the suite) in points: what aggregates, profiles and comparisons are computed from. Empty where
    there are none."""
    aggregates: Mapping[str, Estimate]
    """Name of ``statistics.AGGREGATES`` -> over the tasks of the suite; empty when a task is missing or no seed has
    all of them. Points, the optimality gap in units of 100 points; raw returns have no such gap."""
    cost: Mapping[str, float]
    """Name of ``COSTS`` -> median over the finished cells; what is not known is not in it."""
    spread: Mapping[str, tuple[float, float]]
    """The same names -> smallest and largest of them."""
    failed: int
    """Number of failed cells."""
    records: tuple[Record, ...]
    """All of its records, by start."""
    used: frozenset[str]
    """Keys of those that count in ``scores``."""
    verified: int
    """How many of ``used`` a second machine has confirmed."""

    @property
    def trust(self) -> str:
        """``verified`` only where every cell that counts is; else ``self-reported``."""
        return "verified" if self.used and self.verified == len(self.used) else "self-reported"

    @property
    def mean(self) -> Estimate | None:
        """Mean over the tasks of the suite, in points."""
        return self.aggregates.get("mean")

    @property
    def iqm(self) -> Estimate | None:
        """Interquartile mean, likewise."""
        return self.aggregates.get("iqm")


@dataclass(frozen=True)
class FailedCell:
    """A cell without a score, and why."""

    label: str
    task: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Section:
    """What may be compared: one table."""

    setting: Setting
    tasks: tuple[str, ...]
    """The suite's tasks in their order, then others that the records hold."""
    complete: bool
    """Whether the suite is known, so that aggregates have a meaning."""
    task_settings: Mapping[str, TaskSetting]
    data: Mapping[str, float]
    """Task -> mean normalised return of the data set: what copying it on average would score. Without the tasks whose
    data hold clipped rewards only."""
    data_mean: float | None
    """Mean of ``data`` over the suite; None when a task is missing."""
    data_iqm: float | None
    rows: tuple[Row, ...]
    """By label."""
    failed: tuple[FailedCell, ...]
    apart: tuple[str, ...]
    """Why it is not in one table with section ``apart_from``; empty for the first."""
    apart_from: int
    """Index of the earlier section that is most like this one."""
    measured: str
    """How and on what the costs were measured, in a sentence or two."""
    notes: tuple[str, ...]
    """What a reader must know beside the numbers: what is missing, left out or not alike."""


@dataclass(frozen=True)
class Board:
    """Every section, those with most tasks and records first; nothing is compared across sections."""

    sections: tuple[Section, ...]


def build_board(
    records: Sequence[Record],
    suites: Mapping[str, tuple[str, ...]] = SUITES,
    verified: Collection[str] = frozenset(),
) -> Board:
    """The tables of ``records``. ``suites``: suite -> its tasks. Those of another suite are as its
    records say; where they do not say, no aggregate is made. ``verified``: keys of cells that a second machine has
    confirmed.

    Records are taken as given: two finished ones of the same row, task and seed are noted, and the earlier one counts.
    """
    groups = sorted(comparable_groups(records), key=lambda group: (-len(group.tasks), -len(group.records)))
    sections = []
    for index, group in enumerate(groups):
        reasons = [differences(group, other) for other in groups[:index]]
        nearest = min(range(index), key=lambda other: len(reasons[other]), default=0)
        suite = suites.get(group.setting.suite) or group.setting.suite_tasks or None
        sections.append(_section(group, suite, reasons[nearest] if reasons else [], nearest, verified))
    return Board(tuple(sections))


def _section(
    group: Group, suite: tuple[str, ...] | None, apart: list[str], apart_from: int, verified: Collection[str]
) -> Section:
    tasks = (suite or ()) + tuple(sorted({task for task in group.tasks if task not in (suite or ())}))
    by_row: dict[RowId, list[Record]] = {}
    for record in sorted(group.records, key=lambda one: (one.provenance.started, one.key)):
        by_row.setdefault(RowId.of(record), []).append(record)
    labels = row_labels(list(by_row))
    data = {
        record.identity.task: record.identity.data.normalised_mean
        for record in group.records
        if record.identity.data is not None and record.identity.data.rewards == "raw"
    }
    notes: list[str] = []
    rows = [_row(labels[row], row, found, suite, data, notes, verified) for row, found in by_row.items()]
    failed = [
        FailedCell(
            labels[row],
            record.identity.task,
            record.identity.seed,
            f"{record.failure.type}: {record.failure.message}"
            + (f" (step {record.failure.step})" if record.failure.step is not None else ""),
        )
        for row, found in by_row.items()
        for record in found
        if record.failure is not None
    ]
    if suite is None:
        notes.append(f"suite {group.setting.suite!r} is not known here: no aggregates")
    notes += _ragged(rows, suite or ()) + unlike(group.records) + _unlike_seeds(rows)
    whole = suite is not None and all(task in data for task in suite)
    column = np.array([[data[task] for task in suite or ()]]) if whole else None
    return Section(
        setting=group.setting,
        tasks=tasks,
        complete=suite is not None,
        task_settings={task: group.tasks[task] for task in tasks if task in group.tasks},
        data={task: data[task] for task in tasks if task in data},
        data_mean=None if column is None else float(mean(column)),
        data_iqm=None if column is None else float(iqm(column)),
        rows=tuple(sorted(rows, key=lambda row: row.label)),
        failed=tuple(sorted(failed, key=lambda cell: (cell.label, cell.task, cell.seed, cell.reason))),
        apart=tuple(apart),
        apart_from=apart_from,
        measured=measured(group.records),
        notes=tuple(notes),
    )


def _ragged(rows: Sequence[Row], suite: Sequence[str]) -> list[str]:
    """Notes on rows that lack tasks of the suite, those that lack the same ones together."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row.missing:
            lacking.setdefault(row.missing, []).append(row.label)
    return [
        f"{', '.join(labels)}: no aggregate, {'it lacks' if len(labels) == 1 else 'they lack'} {len(missing)} of "
        f"{len(suite)} tasks: {', '.join(missing)}"
        for missing, labels in lacking.items()
    ]


def _unlike_seeds(rows: Sequence[Row]) -> list[str]:
    """A note where aggregates are over different seeds."""
    seeds: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        if row.matrix:
            seeds.setdefault(row.seeds, []).append(row.label)
    said = "; ".join(f"{', '.join(map(str, one))}: {', '.join(labels)}" for one, labels in seeds.items())
    return [f"aggregates are over different seeds ({said})"] if len(seeds) > 1 else []


def _row(
    label: str,
    row: RowId,
    records: list[Record],
    suite: tuple[str, ...] | None,
    data: Mapping[str, float],
    notes: list[str],
    verified: Collection[str],
) -> Row:
    done: dict[str, dict[int, Record]] = {}
    for record in records:
        if record.headline is None:
            continue
        seeds = done.setdefault(record.identity.task, {})
        kept = seeds.setdefault(record.identity.seed, record)
        if kept is not record:
            # Taking the better one would be choosing by the score.
            notes.append(
                f"{label}: {record.identity.task}, seed {record.identity.seed} is there twice; {kept.key} counts, "
                f"{record.key} is later and left out"
            )
    scores = {task: _score(seeds, data.get(task)) for task, seeds in done.items()}
    missing = tuple(task for task in suite or () if task not in done)
    used = [record for seeds in done.values() for record in seeds.values()]
    matrix: list[list[float]] = []
    common: list[int] = []
    episodes: list[list[float]] | None = None
    if suite and not missing:
        # A seed that has only some of the tasks would weigh them unequally.
        common = sorted(set.intersection(*(set(done[task]) for task in suite)))
        partial = sorted({seed for task in suite for seed in done[task]} - set(common))
        if partial:
            left = ", ".join(map(str, partial))
            notes.append(f"{label}: seeds {left} lack some tasks and are not in the aggregate")
        matrix = [[_points(done[task][seed]) for task in suite] for seed in common]
        episodes = [_episodes(done[task][common[0]]) for task in suite] if len(common) == 1 else None
    scaled = records[0].protocol.normaliser != "none"
    costs = _costs(record.cost for record in used if record.cost is not None)
    return Row(
        label=label,
        row=row,
        scores=scores,
        missing=missing,
        seeds=tuple(common),
        matrix=tuple(map(tuple, matrix)),
        aggregates={
            name: estimate(matrix, statistic, episodes=episodes)
            for name, statistic in AGGREGATES.items()
            if matrix and (scaled or name != "optimality_gap")
        },
        cost={name: _median(name, values) for name, values in costs.items()},
        spread={name: (min(values), max(values)) for name, values in costs.items()},
        failed=sum(record.status == "failed" for record in records),
        records=tuple(records),
        used=frozenset(record.key for record in used),
        verified=sum(record.key in verified for record in used),
    )


def _costs(costs: Iterable[Cost]) -> dict[str, list[float]]:
    found = list(costs)
    known = {name: [one for cost in found if (one := read(cost)) is not None] for name, read in COSTS.items()}
    return {name: values for name, values in known.items() if values}


def _median(name: str, values: Sequence[float]) -> float:
    found = float(median(values))
    return found if name in COUNTED else float(f"{found:.4g}")


def _score(seeds: Mapping[int, Record], data_mean: float | None) -> Score:
    order = sorted(seeds)
    values = [_points(seeds[seed]) for seed in order]
    value = float(np.mean(values))
    return Score(
        value=value,
        interval=interval(values, episodes=_episodes(seeds[order[0]]) if len(order) == 1 else None),
        seeds=tuple(order),
        values=tuple(values),
        data_ratio=value / data_mean if data_mean is not None and data_mean > 0 else None,
        raw=float(np.mean([record.headline.raw_mean for record in seeds.values() if record.headline])),
    )


def _points(record: Record) -> float:
    assert record.headline is not None
    return record.headline.normalised_mean


def _episodes(record: Record) -> list[float]:
    """Normalised score of every episode of the headline."""
    assert record.headline is not None
    protocol, task = record.protocol, record.identity.task
    return [normalise(protocol.normaliser, task, value, protocol.reference) for value in record.headline.returns]
