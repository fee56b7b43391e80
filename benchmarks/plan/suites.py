"""Tasks and suites: what is played, on which data, towards which target returns. ``suite_file`` defines the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench import configs, terminal
from backbench.benchmarks.environments.observe import Observe
from backbench.errors import UserError, suggest

if TYPE_CHECKING:
    from backbench.benchmarks.environments.kind import EnvironmentKind
    from backbench.benchmarks.plan.suite_file import Suite

FOLDER = configs.SUITES
VARIABLE = "BACKBENCH_SUITES"  # folders of the user's suites, separated as PATH is
OWN = "suites"  # such a folder below the working one
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Task:
    """One task with one data source, resolved from a suite's table."""

    name: str  # such as ``hopper-medium``
    suite: str
    environment: str  # the normaliser's name of it, such as ``hopper``
    env_id: str  # of the Gymnasium environment of the evaluation; depends on the data source
    data_id: str  # of the data set in the Minari store
    # Target returns, declared with the task, on the scale of ``rewards``. The first one is the headline. Empty if they
    # follow from the data by ``data.trajectories.by_rule``.
    targets: tuple[float, ...]
    rewards: str = "raw"  # the scale of returns-to-go: ``raw``, ``clipped`` to [-1, 1] each, or ``mixed``
    return_scale: float = 1000.0  # returns-to-go are divided by it
    max_steps: int = 1000  # longest episode
    normaliser: str = "d4rl"  # name of the score's scale
    reference: tuple[float, ...] = ()  # raw returns that score 0 and 100 with normaliser ``declared``, else empty
    pixels: bool = False  # whether states are stacked frames of an Atari game
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    suite_tasks: tuple[str, ...] = ()  # all tasks of a user's suite, empty for Backbench's own
    observe: Observe | None = None  # what the agent sees of its vectors, in data and environment; None for all
    # Arguments of the environment that make its episodes longer -> their values at the length of the data.
    longer: Mapping[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> EnvironmentKind:
        """The kind of its environment."""
        from backbench.benchmarks.environments.registry import kind_of  # imports NumPy

        return kind_of(self.pixels)

    def check_observed(self, full: int) -> None:
        """Raise ``UserError`` unless an observation of ``full`` numbers has those that ``observe`` keeps."""
        if self.observe is not None:
            self.observe.size(full, f"suite {self.suite}: task {self.name}")


def built_in() -> list[str]:
    """Names of the suites that come with Backbench."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def _own() -> dict[str, Path]:
    """The user's named suites: from the folders in ``BACKBENCH_SUITES``, then from ``./suites``."""
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder] + [Path(OWN)]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(p for ending in ENDINGS for p in folder.glob(f"*{ending}")):
            if path.is_file() and not path.name.startswith("."):
                found.setdefault(path.stem, path)
    for name in set(found) & set(built_in()):
        _warn(f"suite {found.pop(name)} is skipped: {name!r} is the name of a suite of Backbench; rename the file")
    return found


@cache
def _warn(text: str) -> None:
    terminal.line(f"bench: {text}", error=True)


def tables() -> Iterator[Suite]:
    """Every suite that can be read. A broken suite of the user's is skipped with a line on stderr."""
    for name in suites():
        try:
            yield table(name)
        except UserError as error:
            _warn(f"{error}; skipped")


def suites() -> list[str]:
    """Names of all suites, the user's own last."""
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
    """A suite's checked table, by name or path. UserError names the file and the field that is wrong."""
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
    """Ids of the data sets of a suite or a task, for ``source``, else for the suite's own source or ``embedded``."""

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
    """The task with its environment, data set and targets for ``source``. Empty ``rewards``: the suite's own scale."""
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
    # One list of targets is for the suite's own scale. A mapping has one for each scale that the data can give.
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
        observe=content.observed(name, source),
        longer=chosen.longer,
    )
