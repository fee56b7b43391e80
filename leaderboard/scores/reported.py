"""Scores that papers report, with citation, never measured here. ``note`` names secondary transcriptions."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "reported_scores.csv"
# Unit in the file -> suite and normaliser of the sections that show it.
UNITS = {"d4rl_normalized": ("d4rl", "d4rl"), "gamer_normalized": ("atari", "dt-gamer")}
# Our backbone -> the published method that it is. GLoMa is a re-implementation from the paper's text, not its code.
METHODS = {"transformer": "DT", "mamba": "DMamba", "gloma": "MambaDM"}
_ATARI_END = "-dqn-replay-1pct"


@dataclass(frozen=True)
class Reported:
    """One published figure."""

    method: str
    task: str  # As the suites call it, such as ``hopper-medium``.
    score: float  # On the scale ``unit``.
    std: float | None  # As published; over seeds, where the paper says so.
    unit: str  # A key of ``UNITS``.
    citation: str
    note: str


@cache
def published() -> tuple[Reported, ...]:
    """Every published figure, in the order of the file."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Reported(
                **line
                | {"task": line["task"].removesuffix(_ATARI_END), "score": float(line["score"])}
                | {"std": float(line["std"]) if line["std"] else None}
            )
            for line in csv.DictReader(file)
        )
