"""From records to tables: a pure function of the records, in any order, without a clock, a file or a random seed.
Rows are backbones, columns tasks. A row that lacks a task of its suite has no aggregate; a note names what is
missing."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

import numpy as np

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.agreement import Agreement, across, machines, on_one_machine
from backbench.leaderboard.board.groups import Group, comparable_groups, differences, measured, together, unlike
from backbench.leaderboard.board.settings import RowId, Setting, TaskSetting, row_labels
from backbench.leaderboard.board.tuning import Key, Tuning, key_of, setting_of, tunings
from backbench.leaderboard.board.twins import TWINS, Scores, Twin
from backbench.leaderboard.record.files import uncollected
from backbench.leaderboard.record.identity import tuned
from backbench.leaderboard.record.returns import are_shares, are_successes
from backbench.leaderboard.record.schema import Record, TargetScore
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import Estimate, Interval, estimate, interval, rate_interval

SOLVED = 50  # a task with declared references is unsolved where no row has this score


@dataclass(frozen=True)
class Score:
    """A row's score on one task: last checkpoint, first target."""

    value: float  # Mean over seeds, normalised.
    interval: Interval | None  # Of ``value``; None for one seed with one episode, unless that is a success or none.
    seeds: tuple[int, ...]  # Seeds that it is a mean of.
    values: tuple[float, ...]  # Normalised score of each seed.
    data_ratio: float | None  # ``value`` over the data set's own mean score, where that is known and positive.
    raw: float  # Mean return over seeds, raw.
    error: float = 0.0  # Standard error of one seed's score over its episodes, where returns are shares; else 0.


@dataclass(frozen=True)
class Longer:
    """A row's score on longer episodes of a task than it was trained on."""

    task: str
    times: int  # the data's length
    acting: str
    lag: int | None  # Most steps from what an answer needs to the answer; None if that is not known.
    beyond: bool  # Whether that is more than the windows of training held.
    value: float  # Mean over seeds, normalised.
    interval: Interval | None


@dataclass(frozen=True)
class Row:
    """One backbone under one setting."""

    label: str
    row: RowId
    scores: Mapping[str, Score]  # Task -> score; without the tasks that have no finished cell.
    missing: tuple[str, ...]  # Tasks of the suite without a score.
    seeds: tuple[int, ...]  # Seeds that have all tasks of the suite.
    # (seeds, tasks of the suite) normalised scores. Empty if a task is missing, no seed has all tasks, or the suite has
    # no common scale. All that is computed over tasks comes from it and from ``played``.
    matrix: tuple[tuple[float, ...], ...]
    played: tuple[
        tuple[tuple[float, ...], ...], ...
    ]  # (seeds, tasks, episodes) of it: episode i of a task has start i.
    aggregates: Mapping[str, Estimate]  # Key of ``columns.METRICS`` -> over the suite; empty where ``matrix`` is.
    cost: Mapping[str, float]  # Key of ``columns.COSTS`` -> median over the finished cells, where it is known.
    spread: Mapping[str, tuple[float, float]]  # The same keys -> smallest and largest of them.
    records: tuple[Record, ...]  # All of its records, by start.
    used: frozenset[str]  # Keys of those that count in ``scores``.
    reproduced: int  # How many of ``used`` another machine ran again with an equal score.
    machines: int  # Kinds of machines that ``used`` come from.
    agreement: Agreement | None  # Between the seeds of one machine and those of the others, where both have two.
    # The trials that chose its setting; None where it was not tuned, or they are not here.
    tuning: Tuning | None = None
    longer: tuple[Longer, ...] = ()  # By task, length and acting; empty where only the data's length was played.
    twin: Twin | None = None  # Beside its row of the twins' suite; None where that is not here.

    @property
    def trust(self) -> str:
        """``verified``, ``consistent`` or ``different`` where a second machine ran other seeds. Else ``reproduced`` if
        one ran every cell that counts again with an equal score; else ``self-reported``."""
        if self.agreement is not None:
            return self.agreement.verdict
        return "reproduced" if self.used and self.reproduced == len(self.used) else "self-reported"

    @property
    def by_seed(self) -> Scores:
        """Task -> seed -> normalised score."""
        return {task: dict(zip(one.seeds, one.values, strict=True)) for task, one in self.scores.items()}

    @property
    def failed(self) -> int:
        return sum(record.status == "failed" for record in self.records)

    def unknown(self, column: columns.CostColumn) -> bool:
        """Whether a cost that is counted is not known, though the row has finished cells."""
        return column.counted and column.required and bool(self.used) and column.key not in self.cost

    @property
    def mean(self) -> Estimate | None:
        return self.aggregates.get("mean")

    @property
    def iqm(self) -> Estimate | None:
        return self.aggregates.get("iqm")


@dataclass(frozen=True)
class Section:
    """One table: rows that may be compared."""

    setting: Setting
    tasks: tuple[str, ...]  # The suite's tasks in their order, then others that the records hold.
    complete: bool  # Whether aggregates have a meaning: the suite is known, and its scores share a scale and a kind.
    task_settings: Mapping[str, TaskSetting]
    data: Mapping[str, float]  # Task -> mean normalised return of its data, where these hold raw rewards.
    data_aggregates: Mapping[str, float]  # Metrics ``of_data`` -> over ``data`` of the suite; empty if a task lacks.
    rows: tuple[Row, ...]  # By label.
    measured: str  # How and on what the costs were measured, in a sentence or two.
    notes: tuple[str, ...]  # What a reader must know beside the numbers: what is missing, skipped or not alike.
    apart: tuple[str, ...] = ()  # Why it is not in one table with section ``apart_from``; empty for the first.
    apart_from: int = 0  # Index of the earlier section that is most like this one.


@dataclass(frozen=True)
class Board:
    """Every section, those with most tasks and records first. Nothing is compared across sections."""

    sections: tuple[Section, ...]


@uncollected()
def build_board(
    records: Sequence[Record], suites: Mapping[str, tuple[str, ...]] = SUITES, reproduced: Collection[str] = frozenset()
) -> Board:
    """The tables of ``records``, which may have any order.
    Of two finished records of the same row, task and seed the earlier one counts, and a note says so. ``suites``: suite
    -> its tasks. Other suites have the tasks that their records list, or no aggregates. ``reproduced``: keys of the
    cells that another machine ran again with an equal score."""
    groups = sorted(comparable_groups(records), key=lambda group: (-len(group.tasks), -len(group.records)))
    trials = tunings(records)
    sections = []
    for index, group in enumerate(groups):
        reasons = [differences(group, other) for other in groups[:index]]
        nearest = min(range(index), key=lambda other: len(reasons[other]), default=0)
        suite = suites.get(group.setting.suite) or group.setting.suite_tasks or None
        section = _section(group, suite, reproduced, trials)
        sections.append(replace(section, apart=tuple(reasons[nearest]), apart_from=nearest) if reasons else section)
    return Board(tuple(_with_twins(section, sections) for section in sections))


def _with_twins(section: Section, sections: Sequence[Section]) -> Section:
    """``section`` with the twin of each of its rows in ``sections``."""
    wanted = replace(section.setting, suite=TWINS.get(section.setting.suite, ""), tuning="")
    seen = {
        _beside(row): row.by_seed
        for other in reversed(sections)  # of two such tables the first counts
        if replace(other.setting, tuning="") == wanted and bool(other.setting.tuning) == bool(section.setting.tuning)
        for row in other.rows
    }
    rows = []
    for row in section.rows:
        backbone, *base = _beside(row)
        found = seen.get((backbone, *base))
        mlp = seen.get(("mlp", *base))
        rows.append(row if found is None else replace(row, twin=Twin.of(row.by_seed, found, mlp)))
    return replace(section, rows=tuple(rows))


def _beside(row: Row) -> tuple[str, ...]:
    """What a row and its twin share: the backbone, and the settings that no tuning chose."""
    return key_of(row.records[0]).row


def _section(
    group: Group, suite: tuple[str, ...] | None, reproduced: Collection[str], trials: Mapping[Key, Tuning]
) -> Section:
    tasks = (suite or ()) + tuple(sorted(set(group.tasks) - set(suite or ())))
    ordered = sorted(group.records, key=lambda one: (one.provenance.started, one.key))
    by_row = together((RowId.of(record), record) for record in ordered)
    summaries = [(record.identity.task, record.identity.data) for record in group.records]
    data = {task: one.normalised_mean for task, one in summaries if one is not None and one.rewards == "raw"}
    played = together((record.identity.task, record) for record in ordered)
    successes = {task: are_successes(found) for task, found in played.items()}
    shares = {task: are_shares(found) for task, found in played.items()}
    mixed = len(set(shares.values())) == 2  # a mean of rates and returns would mean neither
    name, scaled = group.setting.suite, group.setting.normaliser != "none"
    known = _Known(suite or (), data, reproduced, successes, scaled and not mixed, trials)
    notes: list[str] = []
    rows = []
    for label, found in zip(row_labels(list(by_row)), by_row.values(), strict=True):
        row, said = _row(label, found, known)
        rows.append(row)
        notes += [f"{label}: {note}" for note in said]
    if suite is None:
        notes.append(f"suite {name!r} is not known here: no aggregates")
    if not scaled:
        notes.append(f"suite {name!r} has no normaliser: returns of its tasks share no scale, so it has no aggregates")
    if group.setting.normaliser == "declared" and (unsolved := _unsolved(tasks, rows)):
        notes.append(f"unsolved: {', '.join(unsolved)}: no row has a score of {SOLVED}")
    if mixed:
        rates = ", ".join(task for task, share in shares.items() if share)
        notes.append(f"{rates}: rates of successes, other tasks: returns; so suite {name!r} has no aggregates")
    scaled = known.scaled
    notes += _ragged(rows, suite or ()) + unlike(group.records) + _unlike_seeds(rows)
    all_known = scaled and suite and all(task in data for task in suite)
    own = np.array([[data[task] for task in suite]]) if suite and all_known else None
    return Section(
        setting=group.setting,
        tasks=tasks,
        complete=suite is not None and scaled,
        task_settings={task: group.tasks[task] for task in tasks if task in group.tasks},
        data={task: data[task] for task in tasks if task in data},
        data_aggregates={}
        if own is None
        else {one.key: float(one.statistic(own)) for one in columns.METRICS if one.of_data},
        rows=tuple(sorted(rows, key=lambda row: row.label)),
        measured=measured(group.records),
        notes=tuple(notes),
    )


def _unsolved(tasks: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Tasks that some rows have, and none with a score of ``SOLVED``."""
    scores = {task: [row.scores[task].value for row in rows if task in row.scores] for task in tasks}
    return [task for task, found in scores.items() if found and max(found) < SOLVED]


def _ragged(rows: Sequence[Row], suite: Sequence[str]) -> list[str]:
    """Notes on rows that lack tasks of the suite, those that lack the same ones together."""
    lacking = together((row.missing, row.label) for row in rows if row.missing)
    return [
        f"{', '.join(labels)}: no aggregate, {'it lacks' if len(labels) == 1 else 'they lack'} {len(missing)} of "
        f"{len(suite)} tasks: {', '.join(missing)}"
        for missing, labels in lacking.items()
    ]


def _unlike_seeds(rows: Sequence[Row]) -> list[str]:
    """A note where aggregates are over different seeds."""
    seeds = together((row.seeds, row.label) for row in rows if row.matrix)
    said = "; ".join(f"{', '.join(map(str, one))}: {', '.join(labels)}" for one, labels in seeds.items())
    return [f"aggregates are over different seeds ({said})"] if len(seeds) > 1 else []


class _Known(NamedTuple):
    """What a section knows when it builds its rows."""

    suite: Sequence[str]
    data: Mapping[str, float]  # task -> score of its data
    reproduced: Collection[str]
    successes: Mapping[str, bool]  # task -> whether its returns are successes and failures
    scaled: bool  # whether its tasks share a scale
    trials: Mapping[Key, Tuning]


def _row(label: str, records: list[Record], known: _Known) -> tuple[Row, list[str]]:
    """A row from its records by start, and notes on it."""
    suite, scaled = known.suite, known.scaled
    done: dict[str, dict[int, Record]] = {}
    notes = []
    for record in records:
        if record.headline is not None:
            task, seed = record.identity.task, record.identity.seed
            kept = done.setdefault(task, {}).setdefault(seed, record)
            if kept is not record:  # to take the better one would be choosing by the score
                notes.append(
                    f"{task}, seed {seed} is there twice; {kept.key} counts, {record.key} is later and left out"
                )
    missing = tuple(task for task in suite if task not in done)
    seeds: list[int] = []
    if suite and not missing:
        # A seed that has only some of the tasks would weigh them unequally.
        seeds = sorted(set.intersection(*(set(done[task]) for task in suite)))
        if scaled and (partial := sorted({seed for task in suite for seed in done[task]} - set(seeds))):
            notes.append(f"seeds {', '.join(map(str, partial))} lack some tasks and are not in the aggregate")
    used = [record for found in done.values() for record in found.values()]
    matrix = [[_headline(done[task][seed]).normalised_mean for task in suite] for seed in seeds if scaled]
    played = [[_episodes(done[task][seed]) for task in suite] for seed in seeds if scaled]
    episodes = played[0] if len(played) == 1 else ()
    metrics = columns.METRICS if matrix else ()
    spent = [record.cost for record in on_one_machine(used) if record.cost is not None]
    costs = [(one, [value for cost in spent if (value := one.read(cost)) is not None]) for one in columns.COSTS]
    if any(cost.flops_estimated for cost in spent):
        notes.append("its FLOPs are estimated: a module without a formula counts by its weights")
    tuning = known.trials.get(key_of(records[0])) if (tag := tuned(records[0].identity.variant)) else None
    if tag:
        notes += _tuning_notes(setting_of(records[0].identity.variant, tag), tuning)
    row = Row(
        label=label,
        row=RowId.of(records[0]),
        scores={task: _score(found, known.data.get(task), known.successes[task]) for task, found in done.items()},
        missing=missing,
        seeds=tuple(seeds),
        matrix=tuple(map(tuple, matrix)),
        played=tuple(tuple(map(tuple, found)) for found in played),
        aggregates={one.key: estimate(matrix, one.statistic, episodes=episodes) for one in metrics},
        cost={
            one.key: float(median(values) if one.counted else f"{median(values):.4g}")
            for one, values in costs
            if values
        },
        spread={one.key: (min(values), max(values)) for one, values in costs if values},
        records=tuple(records),
        used=frozenset(record.key for record in used),
        reproduced=sum(record.key in known.reproduced for record in used),
        machines=len(machines(used)),
        agreement=across({seed: [done[task][seed] for task in suite] for seed in seeds}, matrix) if matrix else None,
        tuning=tuning,
        longer=tuple(one for task in suite if task in done for one in _longer(task, list(done[task].values()))),
    )
    if row.agreement is not None:
        notes.append(f"{row.agreement.said}; {row.machines} kinds of machines")
    return row, notes


def _longer(task: str, records: Sequence[Record]) -> list[Longer]:
    """The scores of one task's records on longer episodes."""
    found = together(((one.times, one.acting), one) for record in records for _, one in record.longer_scores())
    made = []
    for (times, acting), scores in sorted(found.items()):
        values = [one.score.normalised_mean for one in scores]
        ends = interval(values) if len(values) > 1 else None
        made.append(Longer(task, times, acting, scores[0].lag, scores[0].beyond, float(np.mean(values)), ends))
    return made


def _tuning_notes(setting: str, tuning: Tuning | None) -> list[str]:
    """What is wrong with the trials of a tuned row, which has ``setting``."""
    if tuning is None or not tuning.complete:
        return ["its trials are not all here, so nothing shows how its setting was chosen"]
    return [] if setting == tuning.best else [f"its trials chose {tuning.best}, and it has {setting}"]


def _score(seeds: Mapping[int, Record], data_mean: float | None, success: bool) -> Score:
    order = sorted(seeds)
    values = [_headline(seeds[seed]).normalised_mean for seed in order]
    value = float(np.mean(values))
    single = _episodes(seeds[order[0]]) if len(order) == 1 else None
    # A bootstrap over seeds of equal rates has no width. Every seed plays the same starts, so one seed's count once.
    equal = len({math.fsum(_headline(record).returns) for record in seeds.values()}) == 1
    return Score(
        value=value,
        interval=_rate(seeds[order[0]]) if success and equal else interval(values, episodes=single),
        seeds=tuple(order),
        values=tuple(values),
        data_ratio=value / data_mean if data_mean is not None and data_mean > 0 else None,
        raw=float(np.mean([_headline(record).raw_mean for record in seeds.values()])),
        error=_share_error(list(seeds.values())) if are_shares(seeds.values()) else 0.0,
    )


def _share_error(records: Sequence[Record]) -> float:
    """Standard error of a seed's mean over its episodes, the largest of any seed, in normalised points.
    Two more episodes, one at each end of the scale, keep it above 0 where all are equal (Agresti and Coull 1998)."""
    protocol, task = records[0].protocol, records[0].identity.task
    ends = [normalise(protocol.normaliser, task, value, protocol.reference) for value in (0.0, 1.0)]
    played = [np.array([*_episodes(record), *ends]) for record in records]
    return max(float(episodes.std(ddof=1)) / math.sqrt(len(episodes)) for episodes in played)


def _rate(record: Record) -> Interval:
    protocol, task = record.protocol, record.identity.task
    failure, success = (normalise(protocol.normaliser, task, value, protocol.reference) for value in (0.0, 1.0))
    return rate_interval(_episodes(record), (failure, success))


def _headline(record: Record) -> TargetScore:
    assert record.headline is not None
    return record.headline


def _episodes(record: Record) -> list[float]:
    """Normalised score of every episode of the headline."""
    protocol, task = record.protocol, record.identity.task
    return [normalise(protocol.normaliser, task, value, protocol.reference) for value in _headline(record).returns]
