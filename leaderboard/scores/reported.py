"""Published scores beside ours: looked up, never measured here, never in one aggregate with ours.

``reported_scores.csv`` holds what papers report, with citation; many figures are secondary transcriptions, which the
column ``note`` says. They are shown for a section whose suite and normaliser are those of the figures.

A difference, ours minus reported, is a statement about a reproduction, so it is made only where source and protocol
match: preset ``paper`` without overrides, on the published data (source ``d4rl`` with D4RL's task in a ``-v4``
environment and its normaliser, or source ``dqn-replay`` with gamer-normalised scores), and only for a backbone that is
the published method. What Backbench makes itself (source ``embedded``) has no published counterpart.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from backbench.leaderboard.board.board import Row, Section

TABLE = Path(__file__).parent / "reported_scores.csv"

# Unit in the file -> suite and normaliser of the sections it is shown for.
UNITS = {"d4rl_normalized": ("d4rl", "d4rl"), "gamer_normalized": ("atari", "dt-gamer")}
# Our backbone -> the method it is. GLoMa is a re-implementation from the paper's description, not its code.
METHODS = {"transformer": "DT", "mamba": "DMamba", "gloma": "MambaDM"}
_GAMES_END = "-dqn-replay-1pct"


@dataclass(frozen=True)
class Reported:
    """One published figure."""

    method: str
    task: str
    """As the suites call it, such as ``hopper-medium``."""
    score: float
    """In points of the scale ``unit``."""
    std: float | None
    """As published; over seeds, where the paper says so."""
    unit: str
    """A key of ``UNITS``."""
    citation: str
    note: str


@dataclass(frozen=True)
class Difference:
    """Ours beside the published figure of the same task."""

    row: int
    """Index of a row of the section."""
    ours: float
    """Mean over seeds, in points."""
    low: float | None
    """Ends of our interval, where it is one over seeds."""
    high: float | None
    reported: Reported

    @property
    def difference(self) -> float:
        """Ours minus reported, in points."""
        return self.ours - self.reported.score


@cache
def published() -> tuple[Reported, ...]:
    """Every published figure, in the order of the file."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Reported(
                method=line["method"],
                task=line["task"].removesuffix(_GAMES_END),
                score=float(line["score"]),
                std=float(line["std"]) if line["std"] else None,
                unit=line["unit"],
                citation=line["citation"],
                note=line["note"],
            )
            for line in csv.DictReader(file)
        )


def reported(section: Section) -> list[Reported]:
    """Figures on the tasks and scale of ``section``, in the order of the file; empty where there are none."""
    setting = section.setting
    return [
        one
        for one in published()
        if UNITS[one.unit] == (setting.suite, setting.normaliser) and one.task in section.task_settings
    ]


def reproduction(section: Section) -> list[Difference]:
    """Ours minus reported, by row and task, where source and protocol match; see the module's description."""
    found = {(one.method, one.task): one for one in reported(section)}
    lines = []
    for index, row in enumerate(section.rows):
        for task in section.tasks:
            match = found.get((METHODS.get(row.row.backbone, ""), task))
            if match is None or task not in row.scores or not _same_protocol(section, row, task):
                continue
            score = row.scores[task]
            ends = score.interval if score.interval is not None and score.interval.over == "seeds" else None
            lines.append(
                Difference(index, score.value, None if ends is None else ends.low, None if ends is None else ends.high,
                           match)
            )  # fmt: skip
    return lines


def tabulated(section: Section) -> tuple[list[str], list[list[str]], list[str]]:
    """Reported scores as text: (methods, a line for each task, notes); differences follow below where there are any.

    Empty where nothing is reported on the section's tasks.
    """
    found = reported(section)
    if not found:
        return [], [], []
    methods = list(dict.fromkeys(one.method for one in found))
    scores = {(one.method, one.task): f"{one.score:.1f}" for one in found}
    lines = [
        [f"{task}, reported", *(scores.get((method, task), "—") for method in methods)]
        for task in section.tasks
        if any((method, task) in scores for method in methods)
    ]
    sources: dict[str, list[str]] = {}
    for one in found:
        named = sources.setdefault(f"{one.citation}{f' ({one.note})' if one.note else ''}", [])
        if one.method not in named:
            named.append(one.method)
    notes = [
        "Reported by papers, not measured here; in no aggregate with ours. "
        + "; ".join(f"{', '.join(named)}: {source}" for source, named in sources.items())
        + "."
    ]
    differences = reproduction(section)
    for line in differences:
        ends = "" if line.low is None else f" ({line.low:.1f}, {line.high:.1f})"
        notes.append(
            f"Ours minus reported: {section.rows[line.row].label}, {line.reported.task}: {line.ours:.1f}{ends} - "
            f"{line.reported.score:.1f} ({line.reported.method}) = {line.difference:+.1f}."
        )
    if any(section.rows[line.row].row.backbone == "gloma" for line in differences):
        notes.append("gloma is a re-implementation of MambaDM from its description, not its code.")
    none = why_none(section, differences)
    return methods, lines, notes if none is None else [*notes, none]


def _same_protocol(section: Section, row: Row, task: str) -> bool:
    setting = section.setting
    if setting.preset != "paper" or row.row.variant:
        return False
    if setting.suite == "atari":
        return setting.source == "dqn-replay"
    return setting.source == "d4rl" and section.task_settings[task].environment.endswith("-v4")


def why_none(section: Section, lines: Sequence[Difference]) -> str | None:
    """Why there is no difference to show; None where there is one, or nothing is reported on these tasks."""
    if lines or not reported(section):
        return None
    setting = section.setting
    if setting.source == "embedded":
        return (
            "No difference to reported scores is formed: these data were made here by small policies and are not the "
            "published ones."
        )
    return (
        f"No difference to reported scores is formed: source {setting.source} with preset {setting.preset} is not the "
        "published protocol, or no backbone here is a published method without overrides."
    )
