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
        targets: target returns, declared with the task, on the scale of ``rewards``; the first one is the headline.
        rewards: the scale that returns-to-go live on: ``raw``, ``clipped`` to [-1, 1] each, or ``mixed``.
        return_scale: returns-to-go are divided by it.
        max_steps: longest episode.
        normaliser: name of the score's scale.
        pixels: whether states are stacked frames of a game.
    """

    name: str
    suite: str
    environment: str
    env_id: str
    data_id: str
    targets: tuple[float, ...]
    rewards: str = "raw"
    return_scale: float = 1000.0
    max_steps: int = 1000
    normaliser: str = "d4rl"
    pixels: bool = False


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


def resolve(suite: str, name: str, source: str, rewards: str = "") -> Task:
    """The task of that name with its environment, data set and targets for ``source``.

    ``rewards`` is the scale of the returns-to-go; the suite's own when it is empty.
    """
    content = table(suite)
    if name not in content["tasks"]:
        raise UserError(f"unknown task '{name}' of suite '{suite}'{suggest(name, names(suite))}")
    row = content["tasks"][name]
    if source not in row["sources"]:
        raise UserError(f"unknown data source '{source}' of task '{name}'{suggest(source, row['sources'])}")
    chosen = row["sources"][source]
    rewards = rewards or content.get("rewards", "raw")
    # One list of targets is for the suite's own scale; else there is one for each scale that the data can give.
    targets = chosen["targets"]
    if not isinstance(targets, Mapping):
        targets = {content.get("rewards", "raw"): targets}
    if rewards not in targets:
        raise UserError(
            f"task '{name}' with data source '{source}' has no targets for data.rewards={rewards}; "
            f"give one of {', '.join(targets)}"
        )
    scale = chosen.get("return_scale", content["return_scale"])
    return Task(
        name=name,
        suite=suite,
        environment=row["environment"],
        env_id=chosen["env_id"],
        data_id=chosen["data_id"],
        targets=tuple(float(t) for t in targets[rewards]),
        rewards=rewards,
        return_scale=float(scale[rewards] if isinstance(scale, Mapping) else scale),
        max_steps=int(content["max_steps"]),
        normaliser=content["normaliser"],
        pixels=bool(content.get("pixels", False)),
    )
