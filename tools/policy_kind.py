"""What robots and Atari games share: the interface of a kind of policy, and the ladder of snapshots."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backbench.benchmarks.data.errors import DataError

Row = dict[str, Any]  # a line of log.jsonl: the snapshot's steps, and its returns during training
Snapshot = Callable[[], tuple[dict[str, Any], Row]]  # the policy's arrays now, and what the log says of them


class Kind(ABC):
    """How policies of one kind of environment are trained and measured."""

    recipes: dict[str, dict[str, Any]]  # environment to the settings of its training
    packages: tuple[str, ...]  # whose versions the manifest holds

    @abstractmethod
    def env_id(self, name: str) -> str:
        """Id of the environment."""

    @abstractmethod
    def learner(self, name: str, recipe: dict[str, Any]) -> tuple[Any, Snapshot]:
        """An untrained Stable-Baselines Jax model, and a function that exports it."""

    @abstractmethod
    def choose(self, name: str, folder: Path, rows: Sequence[Row], recipe: dict[str, Any]) -> dict[str, Row]:
        """Snapshot names (``expert``, ``replay0``, …) to their steps and measured returns.

        Raises:
            DataError: too few snapshots.
        """


def load_rows(folder: Path) -> list[Row]:
    """The log of a training run. DataError: there is none."""
    path = folder / "log.jsonl"
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); train first") from error


def ladder(
    rows: Sequence[Row], wanted: Sequence[float], taken: set[int], logged: Callable[[Row], float],
    measured: Callable[[Row], float], candidates: int,
) -> list[Row]:  # fmt: skip
    """A different snapshot for each wanted score, in turn.

    Args:
        rows: snapshots to choose from.
        wanted: scores.
        taken: steps of snapshots that must not be chosen.
        logged: score in the log. The nearest ``candidates`` are measured.
        measured: score under the protocol, which decides.

    Raises:
        DataError: no snapshot is left.
    """
    chosen: list[Row] = []
    for score in wanted:
        free = [row for row in rows if row["steps"] not in taken]
        if not free:
            raise DataError("the best snapshot comes too early for a ladder below it; train longer")
        near = sorted(free, key=lambda row, score=score: abs(logged(row) - score))[:candidates]  # type: ignore[misc]
        chosen.append(min(near, key=lambda row, score=score: abs(measured(row) - score)))  # type: ignore[misc]
        taken = taken | {chosen[-1]["steps"]}
    return chosen
