"""Records in groups within which scores may be compared, why groups are separate, and how records of one differ."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest
from typing import TypeVar

from backbench.leaderboard.board.settings import RowId, Setting, TaskSetting, unequal
from backbench.leaderboard.record.identity import trial
from backbench.leaderboard.record.schema import Record

K = TypeVar("K")
V = TypeVar("V")


def together(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Key -> its values, both in the order of ``pairs``."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


@dataclass
class Group:
    """Records that may stand in one table."""

    setting: Setting
    tasks: dict[str, TaskSetting] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)

    def takes(self, tasks: dict[str, TaskSetting]) -> bool:
        """Whether no task of ``tasks`` contradicts the group's."""
        return all(task not in self.tasks or self.tasks[task].agrees(setting) for task, setting in tasks.items())


def comparable_groups(records: Sequence[Record]) -> list[Group]:
    """Records in groups within which scores may be compared, without trials; independent of the order of ``records``.
    Within a setting a row's tasks stay together if possible: rows with most tasks go first, each to the first group
    that it does not contradict. A row that has one task under several settings (regenerated data, say) is cut into
    layers, the more common setting first."""
    records = [record for record in records if trial(record.identity.variant) is None]
    own = [Setting.of(record) for record in records]
    settings = _settings(own)
    common: Counter[tuple[Setting, str, TaskSetting]] = Counter()
    rows: dict[tuple[Setting, RowId], dict[str, dict[TaskSetting, list[Record]]]] = defaultdict(dict)
    for record, of in sorted(zip(records, own, strict=True), key=lambda pair: pair[0].key):
        setting, task, detail = settings[of], record.identity.task, TaskSetting.of(record)
        common[setting, task, detail] += 1
        rows[setting, RowId.of(record)].setdefault(task, {}).setdefault(detail, []).append(record)
    layers: list[tuple[Setting, RowId, dict[str, TaskSetting], list[Record]]] = []
    for (setting, row), tasks in rows.items():
        columns = []
        for task, found in tasks.items():
            # An unknown data set comes last: it joins a group, it does not make one.
            rank = {one: (one.data_sha256 is None, -common[setting, task, one], repr(one)) for one in found}
            columns.append([(task, detail, found[detail]) for detail in sorted(found, key=rank.__getitem__)])
        for layer in zip_longest(*columns):
            cells = [cell for cell in layer if cell is not None]
            details = {task: detail for task, detail, _ in cells}
            layers.append((setting, row, details, [record for _, _, members in cells for record in members]))
    layers.sort(key=lambda one: (one[0], any(d.data_sha256 is None for d in one[2].values()), -len(one[2]), one[1]))
    groups: list[Group] = []
    for setting, _, details, members in layers:
        group = next((group for group in groups if group.setting == setting and group.takes(details)), None)
        if group is None:
            groups.append(group := Group(setting))
        group.tasks |= {
            task: group.tasks[task].joined(one) if task in group.tasks else one for task, one in details.items()
        }
        group.records += members
    return groups


def _settings(found: Iterable[Setting]) -> dict[Setting, Setting]:
    """Setting of a record -> that of its table; one is given for each record.
    Tasks of one suite may need different simulators. They share a table as long as no package has two versions."""
    counted = Counter(found)
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
    ours, theirs = (
        [(name, repr(value)) for name, value in vars(one.setting).items() if name != "versions"]
        + [*one.setting.versions]
        for one in (group, other)
    )
    said = [f"{name} {here} instead of {there}" for name, here, there in unequal(ours, theirs)]
    if said:  # data and targets follow from these; naming them too would hide the cause
        return said
    pairs = {task: (group.tasks[task], other.tasks[task]) for task in group.tasks if task in other.tasks}
    trained = {task: found for task, (ours, one) in pairs.items() if (found := unequal(ours.training, one.training))}
    for name, here, there in next(iter(trained.values()), []):
        said.append(f"train.{name} of {_of(list(trained))}: {here} instead of {there}")
    for spec in fields(TaskSetting):
        values = {task: [getattr(one, spec.name) for one in pair] for task, pair in pairs.items()}
        others = [task for task, (ours, theirs) in values.items() if ours != theirs]
        if others and spec.name != "training":
            here, there = map(_short, values[others[0]])
            said.append(f"{spec.name} of {_of(others)}: {here} instead of {there}")
    return said


def _of(tasks: Sequence[str]) -> str:
    return tasks[0] + (f" and {len(tasks) - 1} more tasks" if len(tasks) > 1 else "")


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:8]
    return ", ".join(f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)


def measured(records: Iterable[Record]) -> str:
    """How the costs of ``records`` were measured."""
    done = [record for record in records if record.status == "done"]
    machines, batches = ", ".join(_machines(done)) or "no machine yet", ", ".join(map(str, _batches(done)))
    return (
        f"Costs: medians over a row's cells on one kind of machine, measured on {machines}; FLOPs are of a "
        f"forward pass; a decision is timed for {batches or 'no'} environment{'' if batches == '1' else 's'} at once; "
        "memory is the process's peak. What else ran at the time is not recorded."
    )


def unlike(records: Sequence[Record]) -> list[str]:
    """Notes on differences between ``records`` that do not forbid a comparison of scores."""
    notes, done = [], [record for record in records if record.status == "done"]
    origins = [record.provenance for record in done]
    if len(machines := _machines(done)) > 1:
        notes.append(f"costs were measured on different machines and do not compare: {'; '.join(machines)}")
    if len(batches := _batches(records)) > 1:
        notes.append(f"decisions were timed with different batches: {', '.join(map(str, batches))}")
    commits = sorted({origin.git_commit or "none" for origin in origins})
    if len(commits) > 1:
        notes.append(f"records of {len(commits)} commits: {', '.join(commit[:10] for commit in commits)}")
    for name in ("torch", "numpy"):
        versions = sorted({origin.packages.get(name, "unknown") for origin in origins})
        if len(versions) > 1:
            notes.append(f"records of {len(versions)} versions of {name}: {', '.join(versions)}")
    if dirty := sum(bool(origin.git_dirty) for origin in origins):
        notes.append(f"{dirty} of {len(origins)} records come from code that differed from its commit")
    return notes


def _machines(done: Iterable[Record]) -> list[str]:
    found = set()
    for one in (record.provenance for record in done):
        threads = f"{one.threads} thread{'' if one.threads == 1 else 's'}"
        found.add(f"{one.hardware.gpu or one.hardware.cpu} ({one.device}, {threads}, {one.dtype})")
    return sorted(found)


def _batches(records: Iterable[Record]) -> list[int]:
    """Environments per timed decision."""
    return sorted({record.cost.decision.batch for record in records if record.cost is not None})
