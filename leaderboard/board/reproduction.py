"""Published scores beside ours, and the difference where both have the same protocol.
A difference is formed only for a backbone that is the published method, with preset ``paper`` without overrides (for
Decision Mamba also with its own preset), on the published data: source ``d4rl`` with D4RL's task in a ``-v4``
environment and its normaliser, or source ``dqn-replay`` with gamer-normalised scores. Published scores enter no
aggregate with ours."""

from collections.abc import Sequence
from dataclasses import dataclass

from backbench.leaderboard.board.board import Row, Section
from backbench.leaderboard.board.groups import together
from backbench.leaderboard.scores.reported import METHODS, UNITS, Reported, published


@dataclass(frozen=True)
class Difference:
    """Ours beside the published figure of the same task."""

    row: int  # Index of a row of the section.
    ours: float  # Mean over seeds, normalised.
    low: float | None  # Ends of our interval, if it is over seeds.
    high: float | None
    reported: Reported

    @property
    def difference(self) -> float:
        return self.ours - self.reported.score


def reported(section: Section) -> list[Reported]:
    """Figures on the tasks and scale of ``section``, in the order of the file; empty where there are none."""
    scale = section.setting.suite, section.setting.normaliser
    return [one for one in published() if UNITS[one.unit] == scale and one.task in section.task_settings]


def reproduction(section: Section) -> list[Difference]:
    """Ours minus reported, by row and task, where source and protocol match; see the module's description."""
    found = {(one.method, one.task): one for one in reported(section)}
    lines = []
    for index, row in enumerate(section.rows):
        for task in section.tasks:
            match = found.get((METHODS.get(row.row.backbone, ""), task))
            if match is None or task not in row.scores or not _same_protocol(section, row, task):
                continue
            value, around = row.scores[task].value, row.scores[task].interval
            low, high = (around.low, around.high) if around and around.over == "seeds" else (None, None)
            lines.append(Difference(index, value, low, high, match))
    return lines


def tabulated(section: Section) -> tuple[list[str], list[list[str]], list[str]]:
    """Reported scores as text: (methods, a line for each task, notes with the differences).
    Empty where nothing is reported on the section's tasks."""
    found = reported(section)
    methods = list(dict.fromkeys(one.method for one in found))
    if not methods:
        return [], [], []
    scores = {(one.method, one.task): f"{one.score:.1f}" for one in found}
    lines = [
        [f"{task}, reported", *(scores.get((method, task), "—") for method in methods)]
        for task in section.tasks
        if any((method, task) in scores for method in methods)
    ]
    sources = together((f"{one.citation}{f' ({one.note})' if one.note else ''}", one.method) for one in found)
    said = "; ".join(f"{', '.join(dict.fromkeys(named))}: {source}" for source, named in sources.items())
    notes = [f"Reported by papers, not measured here; in no aggregate with ours. {said}."]
    differences = reproduction(section)
    for line in differences:
        ends = "" if line.low is None else f" ({line.low:.1f}, {line.high:.1f})"
        notes.append(
            f"Ours minus reported: {section.rows[line.row].label}, {line.reported.task}: {line.ours:.1f}{ends} - "
            f"{line.reported.score:.1f} ({line.reported.method}) = {line.difference:+.1f}."
        )
    if any(section.rows[line.row].row.backbone == "gloma" for line in differences):
        notes.append("gloma is a re-implementation of MambaDM from its description, not its code.")
    return methods, lines, [*notes, *filter(None, [why_none(section, differences)])]


def _same_protocol(section: Section, row: Row, task: str) -> bool:
    setting = section.setting
    same = setting.source == "d4rl" and section.task_settings[task].environment.endswith("-v4")
    same = setting.source == "dqn-replay" if setting.suite == "atari" else same
    own = "paper-decision-mamba" if row.row.backbone == "mamba" else "paper"
    return same and setting.preset in ("paper", own) and not row.row.variant


def why_none(section: Section, lines: Sequence[Difference]) -> str | None:
    """Why there is no difference to show; None where there is one, or nothing is reported on these tasks."""
    if lines or not reported(section):
        return None
    source, why = section.setting.source, "these data were made here by small policies and are not the published ones"
    if source != "embedded":
        why = (
            f"source {source} with preset {section.setting.preset} is not the published protocol, or no backbone here "
        )
        why += "is a published method without overrides"
    return f"No difference to reported scores is formed: {why}."
