"""The YAML file of a suite: its fields, and one line about the first mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from backbench import reading
from backbench.benchmarks.data.sources import SOURCES
from backbench.benchmarks.environments.kind import EnvironmentKind
from backbench.benchmarks.environments.registry import kind_of
from backbench.errors import UserError, suggest
from backbench.leaderboard.scores.normalise import CITATIONS, bounds

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$")]
Scale = Literal["raw", "clipped", "mixed"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Targets = Literal["data"] | Annotated[tuple[Number, ...], Field(min_length=1)]
Steps = Annotated[int, Field(ge=1)]


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
    max_steps: Steps | None = None  # longest episode of an evaluation


class Row(_Part):
    """One task. What it leaves open, its suite says."""

    environment: str = ""  # the normaliser's name of it
    reference: tuple[Number, Number] | None = None  # raw returns that score 0 and 100 with normaliser: declared
    return_scale: Positive | None = None
    max_steps: Steps | None = None
    settings: tuple[str, ...] = ()  # key=value, after the suite's own
    sources: Annotated[dict[str, Source], Field(min_length=1)]


class Suite(_Part):
    """A suite: tasks, and what they share."""

    name: Name
    description: str = ""  # a line for `bench list suites`
    source: str = ""  # the data source, if it is not the preset's
    requires: str = ""  # the extra of Backbench that installs the environments
    remedy: str = ""  # what to do if the environments are installed and cannot be made
    pixels: bool = False  # Atari games from pixels: every env_id is ALE/<Game>-v5
    rewards: Scale = "raw"  # the scale of returns-to-go
    return_scale: Positive = 1000.0
    max_steps: Steps = 1000
    normaliser: str = "none"
    # key=value: what its tasks need of the settings. They come after the preset and before the user's.
    settings: tuple[str, ...] = ()
    tasks: Annotated[dict[Name, Row], Field(min_length=1)]

    @property
    def kind(self) -> EnvironmentKind:
        """The kind of its environments."""
        return kind_of(self.pixels)

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if self.normaliser not in CITATIONS:
            raise ValueError(f"normaliser {self.normaliser!r}{suggest(self.normaliser, list(CITATIONS))}")
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
                self._check_scales(f"{where}.sources.{source}", row, of)
            try:
                bounds(self.normaliser, name, row.reference)
            except KeyError as error:
                raise ValueError(f"{where}: {error.args[0]}") from None
        return self

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
    try:
        content = reading.read_yaml(path)
    except reading.ReadingError as error:
        raise UserError(f"suite {error}") from error
    if not isinstance(content, dict) or "name" in content:
        raise UserError(
            f"suite {path}: give a mapping with the key tasks (its name is the file's); see docs/reference/suites.md"
        )
    try:
        suite = Suite(name=path.stem, **content)
    except ValidationError as error:
        raise UserError(f"suite {path}: {_line(error)}") from None
    for name, row in suite.tasks.items() if own else ():
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


def _line(error: ValidationError) -> str:
    """The first mistake, with its field and, for an unknown key, the closest one."""
    # Each kind that a value may have complains. The complaint that got furthest says most.
    one = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
    where = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        fields = {*Suite.model_fields, *Row.model_fields, *Source.model_fields} - {"name"}
        return f"unknown key {where}{suggest(str(one['loc'][-1]), sorted(fields))}; see docs/reference/suites.md"
    message = one["msg"].removeprefix("Value error, ")
    return f"{where + ': ' if where else ''}{message[:1].lower() + message[1:]}; see docs/reference/suites.md"
