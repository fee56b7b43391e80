"""The YAML file of a suite: its fields, and one line about the first mistake in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainValidator, ValidationError, model_validator

from backbench import reading
from backbench.benchmarks.data.sources import SOURCES
from backbench.benchmarks.environments.kind import EnvironmentKind
from backbench.benchmarks.environments.observe import Observe, positions
from backbench.benchmarks.environments.registry import kind_of
from backbench.configs import PRESETS, SUITES
from backbench.errors import UserError, suggest
from backbench.leaderboard.scores.normalise import CITATIONS, bounds

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$")]
Scale = Literal["raw", "clipped", "mixed"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Targets = Literal["data"] | Annotated[tuple[Number, ...], Field(min_length=1)]
Steps = Annotated[int, Field(ge=1)]


def _indices(value: Any) -> Literal["positions"] | tuple[int, ...]:
    if value == "positions":
        return "positions"
    if not isinstance(value, list) or not value or any(type(index) is not int or index < 0 for index in value):
        raise ValueError("give positions, or a list of indices from 0, such as [0, 1, 4]")
    if len(set(value)) < len(value):
        raise ValueError(f"the index {Counter(value).most_common(1)[0][0]} is there twice")
    return tuple(value)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """One data source of a task."""

    # Of Gymnasium. module:Id first imports the module, which registers it.
    env_id: Annotated[str, Field(pattern=r"^\S+$")]
    # Of the data set in the Minari store.
    data_id: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+-v\d+$")]
    # Target returns, the first one is the headline. "data": by the rule in docs/reference/data.md.
    targets: Targets | dict[Scale, Targets] = "data"
    return_scale: Positive | dict[Scale, Positive] | None = None  # returns-to-go are divided by it
    env_kwargs: dict[str, JsonValue] = {}  # what the environment is made with
    # Arguments that eval.lengths multiplies, with their values at the length of the data.
    longer: dict[str, Annotated[int, Field(ge=1)]] = {}
    max_steps: Steps | None = None  # longest episode of an evaluation


class Observed(_Part):
    """What an agent sees of vector observations, in data and environment."""

    keep: Annotated[Literal["positions"] | tuple[int, ...], PlainValidator(_indices)] = ()  # empty for all numbers
    missing: Annotated[float, Field(gt=0, lt=1)] | None = None  # share of observations that are missing

    @model_validator(mode="after")
    def _something(self) -> Observed:
        if not self.model_fields_set:
            raise ValueError("give keep, missing or both")
        return self


class Trials(_Part):
    """What --tune tries settings on."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1)]  # one of a kind is enough
    settings: tuple[str, ...] = ()  # key=value, after the suite's and the task's own


class Row(_Part):
    """One task. What it leaves open, its suite says."""

    environment: str = ""  # the normaliser's name of it
    reference: tuple[Number, Number] | None = None  # raw returns that score 0 and 100 with normaliser: declared
    return_scale: Positive | None = None
    max_steps: Steps | None = None
    observe: Observed | None = None  # instead of the suite's; null for complete observations
    settings: tuple[str, ...] = ()  # key=value, after the suite's own
    sources: Annotated[dict[str, Source], Field(min_length=1)]


class Suite(_Part):
    """A suite: tasks, and what they share."""

    name: Name
    description: str = ""  # a line for `bench list suites`
    papers: str = ""  # arXiv:… or doi:…, what to cite
    source: str = ""  # the data source, if it is not the preset's
    presets: str = ""  # the suite of Backbench whose presets it has; its own name if there are some, else Gym's
    requires: str = ""  # the extra of Backbench that installs the environments
    remedy: str = ""  # what to do if the environments are installed and cannot be made
    pixels: bool = False  # Atari games from pixels: every env_id is ALE/<Game>-v5
    rewards: Scale = "raw"  # the scale of returns-to-go
    return_scale: Positive = 1000.0
    max_steps: Steps = 1000
    normaliser: str = "none"
    observe: Observed | None = None  # None for complete observations
    # key=value: what its tasks need of the settings. They come after the preset and before the user's.
    settings: tuple[str, ...] = ()
    tune: Trials | None = None  # None: --tune tries on every task
    tasks: Annotated[dict[Name, Row], Field(min_length=1)]

    @property
    def kind(self) -> EnvironmentKind:
        """The kind of its environments."""
        return kind_of(self.pixels)

    def observed(self, task: str, source: str) -> Observe | None:
        """The filter of a task's observations with this data source; None if there is none.

        ValueError if it keeps positions, and they are not known.
        """
        row = self.tasks[task]
        asked, of = row.observe if "observe" in row.model_fields_set else self.observe, row.sources[source]
        if asked is None:
            return None
        keep = positions(of.env_id, of.env_kwargs) if asked.keep == "positions" else asked.keep
        if not keep and asked.keep:
            raise ValueError(f"observe.keep: the positions of {of.env_id} are not known; give a list of indices")
        return Observe(keep, asked.missing or 0.0)

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.normaliser not in CITATIONS:
            raise ValueError(f"normaliser {self.normaliser!r}{suggest(self.normaliser, list(CITATIONS))}")
        own = sorted(folder.name for folder in PRESETS.iterdir() if folder.is_dir())
        if self.presets and self.presets not in own:
            raise ValueError(f"presets: {self.presets!r} has none{suggest(self.presets, own)}")
        for name in () if self.tune is None else self.tune.tasks:
            if name not in self.tasks:
                raise ValueError(f"tune.tasks: no task {name!r}{suggest(name, list(self.tasks))}")
        for name, row in self.tasks.items():
            where = f"tasks.{name}"
            known = SOURCES.names()
            unknown = [source for source in row.sources if source not in known]
            if unknown:
                raise ValueError(f"{where}.sources.{unknown[0]}: no such data source{suggest(unknown[0], known)}")
            if self.source and self.source not in row.sources:
                raise ValueError(f"{where} has no source {self.source!r}, which is the suite's")
            if self.normaliser == "declared" and (row.reference is None or row.reference[0] == row.reference[1]):
                raise ValueError(f"{where}.reference: give two different returns, which score 0 and 100")
            if self.normaliser != "declared" and row.reference is not None:
                raise ValueError(f"{where}.reference goes with normaliser: declared, not {self.normaliser}")
            for source, of in row.sources.items():
                if wrong := [name for name, value in of.longer.items() if of.env_kwargs.get(name, value) != value]:
                    raise ValueError(f"{where}.sources.{source}.longer.{wrong[0]} is not what env_kwargs has")
                self._check_scales(f"{where}.sources.{source}", row, of)
                self._check_observed(name, source)
            try:
                bounds(self.normaliser, name, row.reference)
            except KeyError as error:
                raise ValueError(f"{where}: {error.args[0]}") from None
        return self

    def _check_observed(self, task: str, source: str) -> None:
        """Only vectors are filtered, and their positions are known if those are to be kept."""
        try:
            observe = self.observed(task, source)
        except ValueError as error:
            raise ValueError(f"tasks.{task}.sources.{source}: {error}") from None
        if observe is not None and self.kind.frames:
            raise ValueError(f"tasks.{task}: observe is for vectors, and the suite has pixels; remove observe")

    def _check_scales(self, where: str, row: Row, of: Source) -> None:
        """Targets differ, and each scale with targets has a return scale."""
        lists = of.targets if isinstance(of.targets, dict) else {self.rewards: of.targets}
        for targets in lists.values():
            if targets != "data" and len(set(targets)) != len(targets):
                raise ValueError(f"{where}.targets: the same target twice")
        scale = of.return_scale or row.return_scale or self.return_scale
        lacking = [name for name in lists if isinstance(scale, dict) and name not in scale]
        if lacking:
            raise ValueError(f"{where}.return_scale: none for {lacking[0]}, which has targets")


def read(path: Path, own: bool = True) -> Suite:
    """The suite in a file, named as the file is. ``own``: a user's. UserError names the file and the field."""
    given, content = _content(path)
    try:
        suite = Suite(name=path.stem, **content)
    except ValidationError as error:
        raise UserError(f"suite {path}: {_line(error)}") from None
    for name, row in suite.tasks.items() if own and "tasks" in given else ():
        for source, of in row.sources.items():
            limited = any("max_steps" in part.model_fields_set for part in (suite, row, of))
            if problem := suite.kind.suite_problem(of.env_id, of.env_kwargs, limited):
                raise UserError(f"suite {path}: tasks.{name}.sources.{source}.{problem}; see docs/reference/suites.md")
            if not SOURCES.get(source).any_id:
                usable = sorted(other for other, found in SOURCES.all().items() if found.any_id)
                raise UserError(
                    f"suite {path}: tasks.{name}.sources.{source}: a suite of your own has {' and '.join(usable)}; "
                    "see docs/reference/suites.md"
                )
    return suite


def _content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys in a file, and these with those of the suite that it is ``like``."""
    try:
        given = reading.read_yaml(path)
    except reading.ReadingError as error:
        raise UserError(f"suite {error}") from error
    if not isinstance(given, dict) or "name" in given:
        raise UserError(
            f"suite {path}: give a mapping with the key tasks (its name is the file's); see docs/reference/suites.md"
        )
    if "like" not in given:
        return given, given
    like, known = given["like"], sorted(file.stem for file in SUITES.glob("*.yaml"))
    if like not in known:
        raise UserError(
            f"suite {path}: like: no suite of Backbench is called {str(like)[:60]!r}{suggest(str(like)[:60], known)}"
        )
    other = _content(SUITES / f"{like}.yaml")[1]
    if "tasks" in given:  # the trials of the other suite name its tasks
        other.pop("tune", None)
    return given, {**other, **{key: one for key, one in given.items() if key != "like"}}


def _line(error: ValidationError) -> str:
    """The first mistake, with its field and, for an unknown key, the closest one."""
    # Each kind that a value may have complains. The complaint that got furthest says most.
    one = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
    where = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        parts = (Suite, Trials, Row, Source, Observed)
        fields = {"like", *(name for part in parts for name in part.model_fields)} - {"name"}
        return f"unknown key {where}{suggest(str(one['loc'][-1]), sorted(fields))}; see docs/reference/suites.md"
    message = one["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message[:1].lower() + message[1:]}; see docs/reference/suites.md"
