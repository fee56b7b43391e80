"""Scores that papers report, with citation, never measured here. ``note`` names secondary transcriptions."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from backbench import reading

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
    rows: list[dict[str, Any]] = [*reading.parse_csv(reading.text(TABLE), TABLE)[1]]
    return tuple(
        Reported(
            **row
            | {"task": row["task"].removesuffix(_ATARI_END), "score": float(row["score"])}
            | {"std": float(row["std"]) if row["std"] else None}
        )
        for row in rows
    )
