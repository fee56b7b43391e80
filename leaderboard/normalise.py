"""Score normalisers, each named and cited; never taken from a data set's own optional fields.

``d4rl``: 100 * (return - random) / (expert - random), Fu et al. 2020, "D4RL: Datasets for Deep Data-Driven
Reinforcement Learning" (arXiv:2004.07219), figures of the reference code's ``infos.py``.
``none``: the raw return, for a task that has no agreed scale.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "d4rl_reference_scores.csv"

# What is printed under a table; its keys are the names a record may use.
CITATIONS = {
    "d4rl": "D4RL, 100 * (return - random) / (expert - random), Fu et al. 2020 (arXiv:2004.07219)",
    "none": "raw returns, not normalised",
}


@cache
def d4rl_bounds(environment: str) -> tuple[float, float]:
    """(random return, expert return) of a Gym environment, e.g. ``"hopper"``."""
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["dataset"] == f"{environment}-medium-v2":
                return float(row["ref_min_score"]), float(row["ref_max_score"])
    raise KeyError(f"no D4RL reference scores for {environment!r} in {TABLE.name}")


def d4rl_score(environment: str, value: float) -> float:
    """Normalised score of a raw episode return: 0 is a random policy, 100 is D4RL's expert."""
    low, high = d4rl_bounds(environment)
    return 100.0 * (value - low) / (high - low)


def normalise(name: str, task: str, value: float) -> float:
    """Score of a raw return under the normaliser ``name``; ``task`` is a full name such as ``"hopper-medium"``.

    Raises ``KeyError`` (one line) for a normaliser that is not in ``CITATIONS`` or a task it has no figures for.
    """
    if name == "d4rl":
        return d4rl_score(task.partition("-")[0], value)
    if name == "none":
        return value
    raise KeyError(f"no normaliser {name!r}; there is: {', '.join(CITATIONS)}")
