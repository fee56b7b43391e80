"""Tasks and suites: what is played, on which data, towards which target returns.

The tables are ``configs/suite`` and files of the user's own; ``suitefile`` says what stands in them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.errors import UserError, suggest

if TYPE_CHECKING:
    from backbench.benchmarks.environments.kind import EnvironmentKind
    from backbench.benchmarks.plan.suite_file import Suite

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "suite"
VARIABLE = "BACKBENCH_SUITES"  # folders of the user's suites, separated as PATH is
OWN = "suites"  # such a folder below the working one
ENDINGS = (".yaml", ".yml")


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
            Empty where they follow from the data by the rule of ``data.trajectories.by_rule``.
        rewards: the scale that returns-to-go live on: ``raw``, ``clipped`` to [-1, 1] each, or ``mixed``.
        return_scale: returns-to-go are divided by it.
        max_steps: longest episode.
        normaliser: name of the score's scale.
        reference: raw returns that are 0 and 100 where ``normaliser`` is ``declared``; else empty.
        pixels: whether states are stacked frames of a game.
        env_kwargs: what the environment is made with.
        suite_tasks: all tasks of a suite of the user's own; empty for the ones that come with Backbench.
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
    reference: tuple[float, ...] = ()
    pixels: bool = False
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    suite_tasks: tuple[str, ...] = ()

    @property
    def kind(self) -> EnvironmentKind:
        """The kind of its environment."""
        from backbench.benchmarks.environments.registry import kind_of  # imports NumPy

        return kind_of(self.pixels)


def built_in() -> list[str]:
    """Names of the suites that come with Backbench."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def _own() -> dict[str, Path]:
    """The user's suites that have a name here: those of the folders in ``BACKBENCH_SUITES``, then of ``./suites``."""
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder] + [Path(OWN)]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(p for ending in ENDINGS for p in folder.glob(f"*{ending}")):
            if path.is_file() and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    for name in set(found) & set(built_in()):
        _warn(f"suite {found.pop(name)} is left out: {name!r} is the name of a suite of Backbench; rename the file")
    return found


@cache
def _warn(text: str) -> None:
    """Once a process."""
    print(f"bench: {text}", file=sys.stderr)


def tables() -> Iterator[Suite]:
    """Every suite that can be read; of the user's own, one that cannot is left out with a line on stderr."""
    for name in suites():
        try:
            yield table(name)
        except UserError as error:
            _warn(f"{error}; left out")


def suites() -> list[str]:
    """Names of the suites there are, the user's own last."""
    return [*built_in(), *sorted(_own())]


def _locate(suite: str) -> Path:
    """The file of a suite by its name, or by its path."""
    if suite in built_in():
        return FOLDER / f"{suite}.yaml"
    path = Path(suite).expanduser()
    if path.suffix in ENDINGS or os.sep in suite:
        if not path.is_file():
            raise UserError(f"no file {suite} of a suite; give the path of a YAML file, or a name: bench list suites")
        if path.stem in built_in():
            raise UserError(f"suite {suite}: {path.stem!r} is the name of a suite of Backbench; rename the file")
        return path
    own = _own()
    if suite in own:
        return own[suite]
    raise UserError(
        f"unknown suite '{suite}'{suggest(suite, suites())}; a suite of your own is a file {OWN}/{suite}.yaml, "
        "or give its path"
    )


def table(suite: str) -> Suite:
    """A suite's table, checked. ``suite`` is a name or the path of a file.

    Raises:
        UserError: there is none, or its file says what it should not; names the file and the place.
    """
    path = _locate(suite)
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Suite:
    from backbench.benchmarks.plan.suite_file import read

    return read(path, own=path.parent != FOLDER)


def names(suite: str) -> list[str]:
    """Names of a suite's tasks, in its order."""
    return list(table(suite).tasks)


def data_ids(name: str, source: str = "") -> list[str]:
    """Ids of the data sets that a suite's or a task's name stands for; none where it is neither.

    Of ``source``; when that is empty, of the suite's own one or else of ``embedded``.
    """

    def of(table_: Suite, task: str) -> list[str]:
        chosen = source or table_.source or "embedded"
        sources = table_.tasks[task].sources
        return [sources[chosen].data_id] if chosen in sources else []

    if name in suites() or Path(name).suffix in ENDINGS:
        content = table(name)
        return [id_ for task in content.tasks for id_ in of(content, task)]
    for content in tables():
        if name in content.tasks and (found := of(content, name)):
            return found
    return []


def resolve(suite: str, name: str, source: str, rewards: str = "") -> Task:
    """The task of that name with its environment, data set and targets for ``source``.

    ``rewards`` is the scale of the returns-to-go; the suite's own when it is empty.
    """
    content = table(suite)
    if name not in content.tasks:
        raise UserError(f"unknown task '{name}' of suite '{content.name}'{suggest(name, list(content.tasks))}")
    row = content.tasks[name]
    if source not in row.sources:
        others = [other for other, of in content.tasks.items() if source in of.sources]
        more = f"; tasks of suite '{content.name}' that have it: {', '.join(others)}" if others else ""
        raise UserError(f"unknown data source '{source}' of task '{name}'{suggest(source, list(row.sources))}{more}")
    chosen = row.sources[source]
    rewards = rewards or content.rewards
    # One list of targets is for the suite's own scale; else there is one for each scale that the data can give.
    targets: Any = chosen.targets
    if not isinstance(targets, Mapping):
        targets = {content.rewards: targets}
    if rewards not in targets:
        raise UserError(
            f"task '{name}' with data source '{source}' has no targets for data.rewards={rewards}; "
            f"give one of {', '.join(targets)}"
        )
    declared = targets[rewards]
    scale: Any = chosen.return_scale or row.return_scale or content.return_scale
    return Task(
        name=name,
        suite=content.name,
        environment=row.environment or name,
        env_id=chosen.env_id,
        data_id=chosen.data_id,
        targets=() if declared == "data" else tuple(float(t) for t in declared),
        rewards=rewards,
        return_scale=float(scale[rewards] if isinstance(scale, Mapping) else scale),
        max_steps=chosen.max_steps or row.max_steps or content.max_steps,
        normaliser=content.normaliser,
        reference=row.reference or (),
        pixels=content.pixels,
        env_kwargs=chosen.env_kwargs,
        suite_tasks=() if content.name in built_in() else tuple(content.tasks),
    )
