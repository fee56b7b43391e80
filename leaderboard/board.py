"""From records to tables: a pure function of the records, in any order, without a clock, a file or a random seed.

Rows are backbones, columns tasks. A row that lacks a task of its suite has no aggregate; what is missing is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median as middle

import numpy as np

from backbench.leaderboard.normalise import normalise
from backbench.leaderboard.schema import Record
from backbench.leaderboard.settings import Group, RowId, Setting, TaskSetting, comparable_groups, differences
from backbench.leaderboard.statistics import Estimate, Interval, estimate, interval, iqm, mean
from backbench.leaderboard.suites import SUITES


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
    """One backbone under one setting. Costs are medians over its finished cells; None where there is none."""

    label: str
    backbone: str
    variant: str
    scores: Mapping[str, Score]
    """Task -> score; a task without a finished cell is not in it."""
    missing: tuple[str, ...]
    """Tasks of the suite without a score."""
    mean: Estimate | None
    """Mean over the tasks of the suite, in points; None when a task is missing or no seed has all of them."""
    iqm: Estimate | None
    """Interquartile mean, likewise."""
    parameters: int | None
    """Trainable parameters of the whole agent."""
    train_tokens_per_s: float | None
    decision_ms: float | None
    """Median time of a decision, in milliseconds, for a batch of environments."""
    failed: int
    """Number of failed cells."""


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
    notes: tuple[str, ...]
    """What a reader must know beside the numbers: what is missing, left out or not alike."""


@dataclass(frozen=True)
class Board:
    """Every section, those with most tasks and records first; nothing is compared across sections."""

    sections: tuple[Section, ...]


def build_board(records: Sequence[Record], suites: Mapping[str, tuple[str, ...]] = SUITES) -> Board:
    """The tables of ``records``. ``suites``: suite -> its tasks. Those of another suite are as its
    records say; where they do not say, no aggregate is made.

    Records are taken as given: two finished ones of the same row, task and seed are noted, and the earlier one counts.
    """
    groups = sorted(comparable_groups(records), key=lambda group: (-len(group.tasks), -len(group.records)))
    sections = []
    for index, group in enumerate(groups):
        reasons = [differences(group, other) for other in groups[:index]]
        nearest = min(range(index), key=lambda other: len(reasons[other]), default=0)
        suite = suites.get(group.setting.suite) or group.setting.suite_tasks or None
        sections.append(_section(group, suite, reasons[nearest] if reasons else [], nearest))
    return Board(tuple(sections))


def _section(group: Group, suite: tuple[str, ...] | None, apart: list[str], apart_from: int) -> Section:
    tasks = (suite or ()) + tuple(sorted({task for task in group.tasks if task not in (suite or ())}))
    by_row: dict[RowId, list[Record]] = {}
    for record in sorted(group.records, key=lambda one: (one.provenance.started, one.key)):
        by_row.setdefault(RowId.of(record), []).append(record)
    labels = _labels(list(by_row))
    data = {
        record.identity.task: record.identity.data.normalised_mean
        for record in group.records
        if record.identity.data is not None and record.identity.data.rewards == "raw"
    }
    notes: list[str] = []
    rows = [_row(labels[row], found, suite, data, notes) for row, found in by_row.items()]
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
    notes += _unlike(group.records)
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
        notes=tuple(notes),
    )


def _row(
    label: str, records: list[Record], suite: tuple[str, ...] | None, data: Mapping[str, float], notes: list[str]
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
    costs = [record.cost for record in used if record.cost is not None]
    overall: dict[str, Estimate] = {}
    if suite and missing:
        notes.append(f"{label}: no aggregate, it lacks {len(missing)} of {len(suite)} tasks: {', '.join(missing)}")
    elif suite:
        # A seed that has only some of the tasks would weigh them unequally.
        common = sorted(set.intersection(*(set(done[task]) for task in suite)))
        partial = sorted({seed for task in suite for seed in done[task]} - set(common))
        if partial:
            left = ", ".join(map(str, partial))
            notes.append(f"{label}: seeds {left} lack some tasks and are not in the aggregate")
        if common:
            matrix = np.array([[_points(done[task][seed]) for task in suite] for seed in common])
            episodes = [_episodes(done[task][common[0]]) for task in suite] if len(common) == 1 else None
            overall = {
                name: estimate(matrix, statistic, episodes=episodes)
                for name, statistic in (("mean", mean), ("iqm", iqm))
            }
    cell = records[0].identity
    return Row(
        label=label,
        backbone=cell.backbone,
        variant=cell.variant,
        scores=scores,
        missing=missing,
        mean=overall.get("mean"),
        iqm=overall.get("iqm"),
        parameters=round(middle(cost.parameters_total for cost in costs)) if costs else None,
        train_tokens_per_s=middle(cost.train_tokens_per_s for cost in costs) if costs else None,
        decision_ms=middle(cost.decision.p50_ms for cost in costs) if costs else None,
        failed=sum(record.status == "failed" for record in records),
    )


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


def _labels(rows: Sequence[RowId]) -> dict[RowId, str]:
    """Backbone and variant; with some digits of the options' digest where that alone is not unique."""
    plain = {row: f"{row.backbone} ({row.variant})" if row.variant else row.backbone for row in rows}
    shared = [label for label in plain.values() if list(plain.values()).count(label) > 1]
    return {row: f"{label} #{row.digest[:4]}" if label in shared else label for row, label in plain.items()}


def _unlike(records: Sequence[Record]) -> list[str]:
    """Notes on what was not the same for all records and does not forbid a comparison of scores."""
    notes = []
    origins = [record.provenance for record in records if record.status == "done"]
    machines = sorted(
        {f"{o.hardware.gpu or o.hardware.cpu} ({o.device}, {o.threads} threads, {o.dtype})" for o in origins}
    )
    if len(machines) > 1:
        notes.append(f"costs were measured on different machines and do not compare: {'; '.join(machines)}")
    batches = sorted({record.cost.decision.batch for record in records if record.cost is not None})
    if len(batches) > 1:
        notes.append(f"decisions were timed with different batches: {', '.join(map(str, batches))}")
    commits = sorted({o.git_commit or "none" for o in origins})
    if len(commits) > 1:
        notes.append(f"records of {len(commits)} commits: {', '.join(commit[:10] for commit in commits)}")
    dirty = sum(bool(o.git_dirty) for o in origins)
    if dirty:
        notes.append(f"{dirty} of {len(origins)} records come from code that differed from its commit")
    return notes
