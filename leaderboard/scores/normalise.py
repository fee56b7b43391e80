"""Score normalisers, each named and cited in ``CITATIONS``. Optional fields of a data set are never used."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from backbench import reading

TABLE = Path(__file__).parent / "d4rl_reference_scores.csv"  # of the reference code's ``infos.py``
ATARI_TABLE = Path(__file__).parent / "atari_reference_scores.csv"

# (random, gamer) returns of Decision Transformer's appendix A.3.
DT_GAMER = {"breakout": (2.0, 30.0), "qbert": (164.0, 13455.0), "pong": (-21.0, 15.0), "seaquest": (68.0, 42055.0)}

# Printed under a table. The keys are the names that a record may use.
CITATIONS = {
    "d4rl": "D4RL, 100 * (return - random) / (expert - random), Fu et al. 2020 (arXiv:2004.07219)",
    "atari-human": "human-normalised, 100 * (return - random) / (human - random), 57-game table, Mnih et al. 2015 and "
    "Wang et al. 2016 (arXiv:1511.06581)",
    "dt-gamer": "gamer-normalised, 100 * (return - random) / (gamer - random), rounded pairs of Chen et al. 2021 "
    "(arXiv:2106.01345)",
    "declared": "100 * (return - low) / (high - low), with the two returns that the suite declares for each task",
    "none": "raw returns, not normalised",
}

RENAMED = {"pointmaze": "maze2d"}  # Minari's name of an environment -> D4RL's


@cache
def _figures(table: Path, name: str, low: str, high: str) -> dict[str, tuple[float, float]]:
    """Name, without its version, -> (low, high), from three columns. All versions of one data set have the same."""
    _, rows = reading.parse_csv(reading.text(table), table)
    return {re.sub(r"-v\d+$", "", row[name]): (float(row[low]), float(row[high])) for row in rows}


@cache
def d4rl_bounds(task: str) -> tuple[float, float]:
    """(random return, expert return) of a task such as ``"antmaze-umaze"``, or of an environment such as ``"hopper"``.
    Figures that all data sets of an environment share hold for any other one. Raises ``KeyError`` without figures."""
    environment, dash, rest = task.partition("-")
    known = _figures(TABLE, "dataset", "ref_min_score", "ref_max_score")
    environment = RENAMED.get(environment, environment)
    if (name := f"{environment}{dash}{rest}") in known:
        return known[name]
    pairs = {pair for name, pair in known.items() if name.startswith(f"{environment}-")}
    if len(pairs) == 1:  # each maze has its own figures
        return pairs.pop()
    raise KeyError(f"no D4RL reference scores for {task!r} in {TABLE.name}")


def atari_bounds(game: str) -> tuple[float, float]:
    """(random return, human return) of a game, such as ``"qbert"``. Raises ``KeyError`` without figures."""
    known = _figures(ATARI_TABLE, "game", "random", "human")
    if game not in known:
        raise KeyError(f"no human and random scores for {game!r} in {ATARI_TABLE.name}")
    return known[game]


def bounds(name: str, task: str, reference: Sequence[float] | None = None) -> tuple[float, float]:
    """Raw returns that score 0 and 100 under the normaliser ``name``, a key of ``CITATIONS``.
    ``task``: a full name such as ``"hopper-medium"``. ``reference``: the two returns of the normaliser ``declared``.
    Raises ``KeyError`` (one line) for an unknown normaliser, or a task without figures."""
    match name:
        case "d4rl":
            return d4rl_bounds(task)
        case "atari-human":
            return atari_bounds(task)
        case "dt-gamer" if task in DT_GAMER:
            return DT_GAMER[task]
        case "dt-gamer":
            raise KeyError(f"no gamer's score for {task!r}; there is: {', '.join(DT_GAMER)}")
        case "declared" if reference is not None and len(reference) == 2 and reference[0] != reference[1]:
            return reference[0], reference[1]
        case "declared":
            raise KeyError(f"normaliser 'declared' needs two different returns for {task!r}")
        case "none":
            return 0.0, 100.0
    raise KeyError(f"no normaliser {name!r}; there is: {', '.join(CITATIONS)}")


def normalise(name: str, task: str, value: float, reference: Sequence[float] | None = None) -> float:
    """Normalised score of a raw return: 0 is random play, 100 D4RL's expert, the human or the gamer; see ``bounds``."""
    if name == "none":
        return value
    low, high = bounds(name, task, reference)
    return 100.0 * (value - low) / (high - low)
