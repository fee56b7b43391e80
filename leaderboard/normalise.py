"""Score normalisers, each named and cited; never taken from a data set's own optional fields.

``d4rl``: 100 * (return - random) / (expert - random), Fu et al. 2020, "D4RL: Datasets for Deep Data-Driven
Reinforcement Learning" (arXiv:2004.07219), figures of the reference code's ``infos.py``.
``atari-human``: 100 * (return - random) / (human - random), random play and a human tester, of 57 games; Mnih et al.
2015 (Nature 518), figures as in Wang et al. 2016 (arXiv:1511.06581) and later tables.
``dt-gamer``: the same formula with the rounded pairs that Decision Transformer reports Atari by (arXiv:2106.01345,
appendix A.3 and what follows it); there for the four games of that paper.
``none``: the raw return, for a task that has no agreed scale.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "d4rl_reference_scores.csv"
ATARI_TABLE = Path(__file__).parent / "atari_reference_scores.csv"

# (random, gamer) returns.
DT_GAMER = {"breakout": (2.0, 30.0), "qbert": (164.0, 13455.0), "pong": (-21.0, 15.0), "seaquest": (68.0, 42055.0)}

# What is printed under a table; its keys are the names a record may use.
CITATIONS = {
    "d4rl": "D4RL, 100 * (return - random) / (expert - random), Fu et al. 2020 (arXiv:2004.07219)",
    "atari-human": "human-normalised, 100 * (return - random) / (human - random), 57-game table, Mnih et al. 2015 and "
    "Wang et al. 2016 (arXiv:1511.06581)",
    "dt-gamer": "gamer-normalised, 100 * (return - random) / (gamer - random), rounded pairs of Chen et al. 2021 "
    "(arXiv:2106.01345)",
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


@cache
def atari_bounds(game: str) -> tuple[float, float]:
    """(random return, human return) of a game, e.g. ``"qbert"``."""
    with ATARI_TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["game"] == game:
                return float(row["random"]), float(row["human"])
    raise KeyError(f"no human and random scores for {game!r} in {ATARI_TABLE.name}")


def bounds(name: str, task: str) -> tuple[float, float]:
    """Returns that are 0 and 100 under the normaliser ``name``; ``task`` is a full name such as ``"hopper-medium"``.

    Raises ``KeyError`` (one line) for a normaliser that is not in ``CITATIONS`` or a task it has no figures for.
    """
    environment = task.partition("-")[0]
    if name == "d4rl":
        return d4rl_bounds(environment)
    if name == "atari-human":
        return atari_bounds(environment)
    if name == "dt-gamer":
        if environment not in DT_GAMER:
            raise KeyError(f"no gamer's score for {environment!r}; there is: {', '.join(DT_GAMER)}")
        return DT_GAMER[environment]
    if name == "none":
        return 0.0, 100.0
    raise KeyError(f"no normaliser {name!r}; there is: {', '.join(CITATIONS)}")


def normalise(name: str, task: str, value: float) -> float:
    """Score of a raw return under the normaliser ``name``: 0 is random play, 100 D4RL's expert, the human or the gamer.

    ``task`` is a full name such as ``"hopper-medium"``. Raises as ``bounds`` does.
    """
    if name == "none":
        return value
    low, high = bounds(name, task)
    return 100.0 * (value - low) / (high - low)


def d4rl_score(environment: str, value: float) -> float:
    """D4RL's normalised score of a raw episode return."""
    return normalise("d4rl", environment, value)
