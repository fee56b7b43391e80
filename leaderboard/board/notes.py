"""The notes below a table: scale, protocol, data, what the intervals are worth, what is missing."""

import json
from collections.abc import Sequence

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.analysis import (
    ALIKE,
    SURE,
    Improvement,
    Paired,
    decided_tasks,
    fronts,
    undecided_costs,
    unknown_costs,
)
from backbench.leaderboard.board.board import Row, Section
from backbench.leaderboard.board.groups import together
from backbench.leaderboard.board.settings import Setting
from backbench.leaderboard.record.suites import ALSO
from backbench.leaderboard.scores.normalise import CITATIONS
from backbench.leaderboard.scores.statistics import COVERAGE, PAIRED_COVERAGE

SHORT = {"none": "raw", "atari-human": "human", "dt-gamer": "gamer", "d4rl": "D4RL", "declared": "declared"}


RATES = (
    "(low, high)w: 95 % Wilson interval of a rate of successes, over the episodes of a single seed, or of one seed "
    "where all seeds have equal rates and play the same starts. A bootstrap has no width there. It says nothing about "
    "the noise of training. Means over such tasks are bootstrapped and may have no width."
)


def coverage() -> str:
    """What an interval from few seeds is worth."""
    held = {
        name: ", ".join(f"{share:.0%} with {n}" for n, share in shares.items()) for name, shares in COVERAGE.items()
    }
    return (
        "With few seeds they are too narrow. How often one held the true value in simulation: of an IQM over nine "
        f"tasks {held['iqm']} seeds; of a single task, where 3 seeds give just smallest to largest, {held['task']}."
    )


def notes_of(section: Section, pairs: Sequence[Improvement], paired: Sequence[Paired] = ()) -> list[str]:
    """The notes of one table, a sentence or more each; ``pairs`` and ``paired``: the comparisons printed in it."""
    setting, settings = section.setting, section.task_settings
    notes = []
    if section.apart:
        notes.append(f"Not compared with table {section.apart_from + 1}: {'; '.join(section.apart)}.")
    notes.append(
        f"Score: {CITATIONS[setting.normaliser]}; last checkpoint, first target return; mean over seeds. "
        "× is the score over the data set's own mean return (column data), normalised likewise."
    )
    if also := [name for name in ALSO.get(setting.suite, ()) if name != setting.normaliser]:
        notes.append("Also: " + "; ".join(f"{SHORT[name]}: {CITATIONS[name]}" for name in also) + ".")
    if setting.normaliser == "declared":
        ends = [f"{one.reference[0]:g} and {one.reference[1]:g}" for one in settings.values()]
        notes.append(f"Returns that score 0 and 100: {_per_task(section, ends)}.")
    notes.append(
        f"Protocol: {setting.acting} acting{_timestep(setting)}, {setting.sampling}, {setting.episodes} episodes per "
        f"target, evaluation seed {setting.eval_seed}; "
        f"K {_per_task(section, [str(one.context) for one in settings.values()])}; first "
        f"target {_per_task(section, [f'{one.targets[0]:g}' for one in settings.values()])}; versions: "
        f"{', '.join(f'{name} {version}' for name, version in setting.versions)}."
    )
    filters = [json.loads(one.conventions).get("observe") for one in settings.values()]
    if any(filters):
        said = _per_task(section, [json.dumps(one) if one else "complete" for one in filters])
        notes.append(f"Observations, in data and environment: {said}.")
    if twins := together((row.twin.tasks, row.label) for row in section.rows if row.twin is not None):
        means = [f"{', '.join(tasks)} ({', '.join(labels)})" for tasks, labels in twins.items()]
        notes.append(
            "Observability gap: score where nothing is hidden minus score here. Memory bias: score where nothing is "
            f"hidden minus mlp's there. Means over {'; '.join(means)}."
        )
    if any(row.longer for row in section.rows):
        notes.append(
            "xN: episodes of N times the data's length, with windows N times as long. >K: an answer may need more "
            "steps than the windows of training held."
        )
    hashes = ", ".join(f"{task} {(one.data_sha256 or 'unknown')[:8]}" for task, one in settings.items())
    notes.append(f"Data: source {setting.source}, preset {setting.preset}; sha256 {hashes}.")
    notes += [section.measured, *_interval_notes(section.rows), *_pair_notes(section, pairs)]
    notes += [*_paired_notes(section, paired), *_task_notes(section), *_front_notes(section)]
    notes += [f"{note}." for note in section.notes]
    failed = [(row.label, one.identity, one.failure) for row in section.rows for one in row.records]
    cells = sorted((label, cell.task, cell.seed, said.reason) for label, cell, said in failed if said is not None)
    return notes + [f"Failed: {label}, {task}, seed {seed}: {reason}" for label, task, seed, reason in cells]


def _timestep(setting: Setting) -> str:
    return "" if setting.timestep == "first" else f" at the {setting.timestep} timestep"


def _pair_notes(section: Section, pairs: Sequence[Improvement]) -> list[str]:
    if not pairs:
        return []
    labels, count = [row.label for row in section.rows], len(pairs) // 2
    better = together((labels[one.x], labels[one.y]) for one in pairs if one.decided)
    said = "; ".join(f"{x} better than {', '.join(ys)}" for x, ys in better.items())
    return [
        "P(better than x): how often a run of the column scores more than one of x on the same task, mean over "
        "tasks, ties count half; 0.5 is no difference. Intervals that exclude it: "
        f"{said or 'none'}. Undecided: {count - sum(map(len, better.values()))} of {count} pairs. "
        "No correction is made for the number of pairs."
    ]


def _paired_notes(section: Section, paired: Sequence[Paired]) -> list[str]:
    if not paired:
        return []
    labels, once = [row.label for row in section.rows], [one for one in paired if one.x < one.y]
    ahead = together((labels[one.x], labels[one.y]) for one in paired if one.decided)
    said = "; ".join(f"{x} ahead of {', '.join(ys)}" for x, ys in ahead.items())
    notes = []
    if any(one.over != "starts" for one in once):
        held = ", ".join(f"{share:.0%} with {n}" for n, share in PAIRED_COVERAGE.items() if n > 1)
        notes.append(
            "Difference to x: mean normalised score of the column minus that of x from the same starts, mean over "
            "tasks. The interval resamples each row's seeds, and starts jointly for both rows. Intervals above 0: "
            f"{said or 'none'}. Undecided: {len(once) - sum(map(len, ahead.values()))} of {len(once)} pairs. In "
            f"simulation it held the true value {held} seeds. No correction is made for the number of pairs."
        )
    if any(one.over == "starts" for one in once):
        notes.append(
            "(low, high)s: a difference to x, from the same starts, in which one of the two rows has a single seed. "
            "The interval is over starts only; it says nothing about the noise of training. In simulation it held the "
            f"true value {PAIRED_COVERAGE[1]:.0%} of the time. Rank nothing by it."
        )
    return notes


def _task_notes(section: Section) -> list[str]:
    """Which rows differ on which task, beyond doubt."""
    found, count = decided_tasks(section)
    if not found:
        return []
    labels, said = [row.label for row in section.rows], []
    for task, ones in together((one.task, one) for one in found).items():
        below = together((one.better, labels[one.worse]) for one in ones)
        alike = together((tuple(worse), labels[better]) for better, worse in below.items())
        parts = [f"{', '.join(better)} over {', '.join(worse)}" for worse, better in alike.items()]
        said.append(f"{task}: {'; '.join(parts)}")
    return [
        f"Decided on single tasks, at {SURE:.0%} after Bonferroni's correction for {count} comparisons (Welch's t over "
        f"seeds), {len(found)}: {'. '.join(said)}."
    ]


def _front_notes(section: Section) -> list[str]:
    if sum(row.iqm is not None for row in section.rows) < 2:
        return []
    found, noise, shown = fronts(section), undecided_costs(section), columns.shown(columns.COSTS, "text")
    best = together((tuple(found[one.key]), one.name) for one in shown if found[one.key])
    said = "; ".join(
        f"{', '.join(names)}: {', '.join(section.rows[index].label for index in front)}"
        for front, names in best.items()
    )
    alike = ", ".join(column.name for column in shown if column.key in noise)
    more = f" No front for {alike}: rows differ by less than {ALIKE:.0%}." if alike else ""
    for key, rows in unknown_costs(section).items():
        name = next(one.name for one in columns.COSTS if one.key == key)
        more += f" Unknown {name}, so without a place in that front: {', '.join(section.rows[i].label for i in rows)}."
    return [f"Beaten by no other row in both IQM and a cost, by point estimates: {said}.{more}"] if said else []


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    found = [one for row in rows for score in row.scores.values() if (one := score.interval) is not None]
    found += [each.interval for row in rows for each in (row.mean, row.iqm) if each is not None and each.interval]
    notes = []
    if seeds := [one.n for one in found if one.over == "seeds"]:
        said = "(low, high): 95 % bootstrap interval over seeds, drawn within each task."
        notes.append(f"{said} {coverage()} Fewest seeds here: {min(seeds)}.")
    if any(one.method == "wilson" for one in found):
        notes.append(RATES)
    if any(one.over == "episodes" and one.method == "bootstrap" for one in found):
        notes.append(
            "(low, high)e: one seed only. The interval is over its evaluation episodes; it says nothing about the "
            "noise of training, which is usually larger. Rank nothing by it."
        )
    return notes


def _per_task(section: Section, values: Sequence[str]) -> str:
    """One value where all tasks agree, otherwise one per task, tasks of equal value together."""
    if len(set(values)) == 1:
        return values[0]
    said = []
    for value, tasks in together(zip(values, section.task_settings, strict=True)).items():
        environments = {task.partition("-")[0] for task in tasks}
        one = len(environments) == 1 and len(tasks) > 1
        said.append(f"{value} ({environments.pop() if one else ', '.join(tasks)})")
    return ", ".join(said)
