"""What must be equal before two scores are compared, and how records that differ in it are set apart.

Versions of Backbench, which trains, and of what plays the environments must be equal; those of torch and NumPy, which
round, may differ, and it is noted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest

from backbench.leaderboard.record.files import cell_digest
from backbench.leaderboard.record.schema import Record

COSMETIC = ("log_every", "checkpoint_every")  # of training; they do not change a result
_MATCH = "match=params:"  # a word of the variant, followed by the reference


@dataclass(frozen=True, order=True)
class Setting:
    """What is equal for all tasks of one table."""

    suite: str
    source: str
    preset: str
    acting: str
    sampling: str
    episodes: int
    eval_seed: int
    normaliser: str
    suite_tasks: tuple[str, ...]
    """Of a suite of a user's own; empty for the known ones."""
    versions: tuple[tuple[str, str], ...]
    """(package, version) of Backbench and of what plays the environments, sorted."""

    @classmethod
    def of(cls, record: Record) -> Setting:
        cell, protocol = record.identity, record.protocol
        return cls(
            suite=cell.suite,
            source=cell.source,
            preset=cell.preset,
            acting=protocol.acting,
            sampling=protocol.sampling,
            episodes=protocol.episodes,
            eval_seed=protocol.eval_seed,
            normaliser=protocol.normaliser,
            suite_tasks=cell.suite_tasks,
            versions=versions_of(record),
        )


def versions_of(record: Record) -> tuple[tuple[str, str], ...]:
    """(package, version), sorted, of Backbench and of what plays the record's environment; ``unknown`` where the record
    is silent."""
    environment = record.identity.environment
    names = ["backbench", "gymnasium", "ale-py" if environment.startswith("ALE/") else "mujoco"]
    if environment.startswith("gymnasium_robotics:"):
        names.append("gymnasium-robotics")
    return tuple((name, record.provenance.packages.get(name, "unknown")) for name in sorted(names))


@dataclass(frozen=True)
class TaskSetting:
    """What is equal for all rows of one task, and may differ between tasks."""

    context: int
    targets: tuple[float, ...]
    max_steps: int
    environment: str
    returns_to_go: str
    conventions: str
    """Of the environment, beyond its id, as JSON."""
    return_scale: float
    """0 where a record does not say."""
    reference: tuple[float, float]
    """Returns that score 0 and 100 where the suite declares them; else two zeros, as settings are put in order."""
    training: tuple[tuple[str, str], ...]
    """(name, value as JSON), sorted, of the settings of training, but for those that the row's variant names. Rows of
    one preset share them; a record whose settings differ without saying so is another experiment."""
    data_sha256: str | None
    """None in a failed record that never saw its data; it stands for any data."""

    @classmethod
    def of(cls, record: Record) -> TaskSetting:
        protocol, data = record.protocol, record.identity.data
        return cls(
            context=protocol.context,
            targets=protocol.targets,
            max_steps=protocol.max_steps,
            environment=record.identity.environment,
            returns_to_go=protocol.returns_to_go,
            conventions=json.dumps(protocol.environment, sort_keys=True),
            return_scale=protocol.return_scale or 0.0,
            reference=protocol.reference or (0.0, 0.0),
            training=_training(record),
            data_sha256=None if data is None else data.sha256,
        )

    def agrees(self, other: TaskSetting) -> bool:
        """Whether both could be the same setting."""
        if self.data_sha256 is not None and other.data_sha256 is not None and self.data_sha256 != other.data_sha256:
            return False
        ours, theirs = (replace(one, data_sha256=None, training=()) for one in (self, other))
        return ours == theirs and not _unlike_training(self, other)

    def known(self, other: TaskSetting) -> TaskSetting:
        """This setting, with what only ``other``, which agrees with it, knows."""
        training = {**dict(other.training), **dict(self.training)}
        return replace(
            self, training=tuple(sorted(training.items())), data_sha256=self.data_sha256 or other.data_sha256
        )


def _training(record: Record) -> tuple[tuple[str, str], ...]:
    train = record.provenance.config.get("train")
    if not isinstance(train, dict):
        return ()
    said = {word.partition("=")[0].removeprefix("train.") for word in record.identity.variant.split()}
    names = sorted(name for name in train if name not in said and name not in COSMETIC)
    return tuple((name, json.dumps(train[name], sort_keys=True)) for name in names)


def _unlike_training(one: TaskSetting, other: TaskSetting) -> list[tuple[str, str, str]]:
    """(name, value in one, value in the other) of what both have and is not equal."""
    ours, theirs = dict(one.training), dict(other.training)
    return [(name, value, theirs[name]) for name, value in ours.items() if theirs.get(name, value) != value]


@dataclass(frozen=True, order=True)
class RowId:
    """A row of a table: a backbone with its options, and what was overridden in the preset."""

    backbone: str
    variant: str
    digest: str
    """Of the options and the model's size: a plug-in whose defaults changed is another row."""

    @classmethod
    def of(cls, record: Record) -> RowId:
        cell = record.identity
        shape = [cell.model.d_model, cell.model.n_layers, cell.model.dropout]
        return cls(cell.backbone, cell.variant, cell_digest({"options": cell.options, "model": shape}))

    @property
    def matched(self) -> str | None:
        """Backbone whose number of parameters this row's width was scaled to; None where it was not."""
        return next((word.removeprefix(_MATCH) for word in self.variant.split() if word.startswith(_MATCH)), None)


@dataclass
class Group:
    """Records that may stand in one table."""

    setting: Setting
    tasks: dict[str, TaskSetting] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def takes(self, tasks: dict[str, TaskSetting]) -> bool:
        """Whether no task of ``tasks`` contradicts what is here."""
        return all(task not in self.tasks or self.tasks[task].agrees(setting) for task, setting in tasks.items())

    def add(self, tasks: dict[str, TaskSetting], records: Iterable[Record]) -> None:
        for task, setting in tasks.items():
            known = self.tasks.get(task)
            self.tasks[task] = setting if known is None else known.known(setting)
        self.records.extend(records)


def comparable_groups(records: Sequence[Record]) -> list[Group]:
    """Records in groups within which scores may be compared; independent of the order of ``records``.

    Within a setting a row's tasks stay together as far as they can: rows are placed, those with most tasks first, in
    the first group that they do not contradict. A row that itself has a task twice under different settings (data
    made anew, say) is cut into layers, the more common setting first.
    """
    settings = _settings(records)
    common: Counter[tuple[Setting, str, TaskSetting]] = Counter()
    rows: dict[tuple[Setting, RowId], dict[str, dict[TaskSetting, list[Record]]]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.key):
        setting, task, detail = settings[Setting.of(record)], record.identity.task, TaskSetting.of(record)
        common[setting, task, detail] += 1
        rows[setting, RowId.of(record)].setdefault(task, {}).setdefault(detail, []).append(record)

    layers: list[tuple[Setting, RowId, dict[str, TaskSetting], list[Record]]] = []
    for (setting, row), tasks in rows.items():
        columns = [
            [
                (task, detail, found[detail])
                for detail in sorted(
                    found,
                    # An unknown data set comes last: it joins a group, it does not make one.
                    key=lambda one: (one.data_sha256 is None, -common[setting, task, one], repr(one)),
                )
            ]
            for task, found in tasks.items()
        ]
        for layer in zip_longest(*columns):
            cells = [cell for cell in layer if cell is not None]
            details = {task: detail for task, detail, _ in cells}
            layers.append((setting, row, details, [record for _, _, found in cells for record in found]))
    layers.sort(key=lambda one: (one[0], any(d.data_sha256 is None for d in one[2].values()), -len(one[2]), one[1]))

    groups: list[Group] = []
    for setting, _, details, found in layers:
        group = next((group for group in groups if group.setting == setting and group.takes(details)), None)
        if group is None:
            group = Group(setting)
            groups.append(group)
        group.add(details, found)
    return groups


def _settings(records: Iterable[Record]) -> dict[Setting, Setting]:
    """Setting of a record -> that of its table. Tasks of one suite may be played by different packages; they are
    together as long as no package is there in two versions."""
    counted = Counter(Setting.of(record) for record in records)
    tables: dict[Setting, list[tuple[dict[str, str], list[Setting]]]] = defaultdict(list)
    for setting in sorted(counted, key=lambda one: (-len(one.versions), -counted[one], one)):
        alike = tables[replace(setting, versions=())]
        for versions, members in alike:
            if all(versions.get(name, version) == version for name, version in setting.versions):
                versions.update(setting.versions)
                members.append(setting)
                break
        else:
            alike.append((dict(setting.versions), [setting]))
    return {
        member: replace(member, versions=tuple(sorted(versions.items())))
        for alike in tables.values()
        for versions, members in alike
        for member in members
    }


def differences(group: Group, other: Group) -> list[str]:
    """Why ``group`` is not compared with ``other``, one phrase each."""
    said = [
        f"{spec.name} {getattr(group.setting, spec.name)!r} instead of {getattr(other.setting, spec.name)!r}"
        for spec in fields(Setting)
        if spec.name != "versions" and getattr(group.setting, spec.name) != getattr(other.setting, spec.name)
    ]
    ours, theirs = dict(group.setting.versions), dict(other.setting.versions)
    said += [
        f"{name} {ours[name]} instead of {theirs[name]}"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    if said:  # data and targets follow from these; naming them too would bury the cause
        return said
    pairs = {task: (group.tasks[task], other.tasks[task]) for task in group.tasks if task in other.tasks}
    trained = {task: unlike for task, pair in pairs.items() if (unlike := _unlike_training(*pair))}
    if trained:
        task, unlike = next(iter(trained.items()))
        more = f" and {len(trained) - 1} more tasks" if len(trained) > 1 else ""
        said += [f"train.{name} of {task}{more}: {one} instead of {two}" for name, one, two in unlike]
    for spec in fields(TaskSetting):
        if spec.name == "training":
            continue
        tasks = [
            task
            for task in group.tasks
            if task in other.tasks and getattr(group.tasks[task], spec.name) != getattr(other.tasks[task], spec.name)
        ]
        if tasks:
            here, there = (_short(getattr(one.tasks[tasks[0]], spec.name)) for one in (group, other))
            more = f" and {len(tasks) - 1} more tasks" if len(tasks) > 1 else ""
            said.append(f"{spec.name} of {tasks[0]}{more}: {here} instead of {there}")
    return said


def row_labels(rows: Sequence[RowId]) -> dict[RowId, str]:
    """Backbone and variant; with some digits of the options' digest where that alone is not unique."""
    plain = {row: f"{row.backbone} ({_said(row)})" if row.variant else row.backbone for row in rows}
    shared = [label for label in plain.values() if list(plain.values()).count(label) > 1]
    return {row: f"{label} #{row.digest[:4]}" if label in shared else label for row, label in plain.items()}


def _said(row: RowId) -> str:
    """The variant, with what the row was matched to in words."""
    if row.matched is None:
        return row.variant
    rest = " ".join(word for word in row.variant.split() if not word.startswith(_MATCH))
    return f"matched to {row.matched}" + (f", {rest}" if rest else "")


def measured(records: Iterable[Record]) -> str:
    """How the costs of ``records`` were measured."""
    done = [record for record in records if record.status == "done"]
    machines = ", ".join(sorted({_machine(record) for record in done})) or "no machine yet"
    batches = ", ".join(map(str, sorted({record.cost.decision.batch for record in done if record.cost is not None})))
    return (
        f"Costs: medians over a row's cells, measured on {machines}; FLOPs are of a forward pass; a decision is timed "
        f"for {batches or 'no'} environment{'' if batches == '1' else 's'} at once; memory is the process's peak. What "
        "else ran at the time is not recorded."
    )


def _machine(record: Record) -> str:
    origin = record.provenance
    threads = f"{origin.threads} thread{'' if origin.threads == 1 else 's'}"
    return f"{origin.hardware.gpu or origin.hardware.cpu} ({origin.device}, {threads}, {origin.dtype})"


def unlike(records: Sequence[Record]) -> list[str]:
    """Notes on what was not the same for all records and does not forbid a comparison of scores."""
    notes = []
    origins = [record.provenance for record in records if record.status == "done"]
    machines = sorted({_machine(record) for record in records if record.status == "done"})
    if len(machines) > 1:
        notes.append(f"costs were measured on different machines and do not compare: {'; '.join(machines)}")
    batches = sorted({record.cost.decision.batch for record in records if record.cost is not None})
    if len(batches) > 1:
        notes.append(f"decisions were timed with different batches: {', '.join(map(str, batches))}")
    commits = sorted({o.git_commit or "none" for o in origins})
    if len(commits) > 1:
        notes.append(f"records of {len(commits)} commits: {', '.join(commit[:10] for commit in commits)}")
    for name in ("torch", "numpy"):
        versions = sorted({o.packages.get(name, "unknown") for o in origins})
        if len(versions) > 1:
            notes.append(f"records of {len(versions)} versions of {name}: {', '.join(versions)}")
    dirty = sum(bool(o.git_dirty) for o in origins)
    if dirty:
        notes.append(f"{dirty} of {len(origins)} records come from code that differed from its commit")
    return notes


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:8]
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)
