"""Tasks and suites: what is played, on which data, towards which target returns. The tables are ``configs/suite``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from backbench.backbones.errors import UserError, suggest

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "suite"


@dataclass(frozen=True)
class Task:
    """One task with one data source, resolved from a suite's table.

    Attributes:
        name: such as ``hopper-medium``.
        suite: the table it stands in.
        environment: the normaliser's name of it, such as ``hopper``.
        env_id: of the Gymnasium environment that it is evaluated in; goes with the data source.
        data_id: of the data set in the Minari store.
        targets: target returns, raw, declared with the task; the first one is the headline.
        return_scale: returns-to-go are divided by it.
        max_steps: longest episode.
        normaliser: name of the score's scale.
    """

    name: str
    suite: str
    environment: str
    env_id: str
    data_id: str
    targets: tuple[float, ...]
    return_scale: float = 1000.0
    max_steps: int = 1000
    normaliser: str = "d4rl"


def suites() -> list[str]:
    """Names of the suites there are."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


@cache
def table(suite: str) -> Mapping[str, Any]:
    """A suite's table as it stands in its file."""
    import yaml

    if suite not in suites():
        raise UserError(f"unknown suite '{suite}'{suggest(suite, suites())}")
    content: Mapping[str, Any] = yaml.safe_load((FOLDER / f"{suite}.yaml").read_text())
    return content


def names(suite: str) -> list[str]:
    """Names of a suite's tasks, in its order."""
    return list(table(suite)["tasks"])


def resolve(suite: str, name: str, source: str) -> Task:
    """The task of that name with its environment, data set and targets for ``source``."""
    content = table(suite)
    if name not in content["tasks"]:
        raise UserError(f"unknown task '{name}' of suite '{suite}'{suggest(name, names(suite))}")
    row = content["tasks"][name]
    if source not in row["sources"]:
        raise UserError(f"unknown data source '{source}' of task '{name}'{suggest(source, row['sources'])}")
    chosen = row["sources"][source]
    return Task(
        name=name,
        suite=suite,
        environment=row["environment"],
        env_id=chosen["env_id"],
        data_id=chosen["data_id"],
        targets=tuple(float(t) for t in chosen["targets"]),
        return_scale=float(content["return_scale"]),
        max_steps=int(content["max_steps"]),
        normaliser=content["normaliser"],
    )
