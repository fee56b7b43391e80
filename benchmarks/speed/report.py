"""``speed.json``: the report of one ``bench speed``, with every timing, so that tables can be made from it again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backbench import reading
from backbench.errors import UserError
from backbench.files import write_whole
from backbench.leaderboard.record.schema import Hardware

FILE = "speed.json"
Fields = Mapping[str, Sequence["Entry"]]  # some of the report's fields
Seconds = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


class Entry(BaseModel):
    """Base of all entries: immutable; unknown fields, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Measured(Entry):
    """A measurement of a model, which the file calls ``subject``."""

    model: Annotated[str, Field(alias="subject")]


class ModelEntry(Entry):
    """Facts of a model and the result of its examination."""

    model: Annotated[str, Field(alias="name")]
    peer_of: str | None  # our model that a peer is compared with; None for ours
    parameters: int  # trainable, of the complete policy
    flops_per_token: float | None  # forward, of the backbone at the configured context; None for a complete peer
    state_bytes: int | None = None  # carried for one environment; None for a complete peer and in older reports
    kernels: dict[str, str]  # operation to the implementation that ran
    checks: tuple[str, ...]  # each check with the largest error found
    refused: str | None  # why nothing of it was timed


class Missing(Entry):
    """A requested peer that does not run here."""

    name: str
    reason: str


class TrainingEntry(Measured):
    """A complete training step at one length."""

    length: int  # tokens of a window
    batch: int  # windows
    seconds: Seconds  # of each timed step

    @property
    def tokens_per_s(self) -> list[float]:
        """Of each timed step."""
        return [self.length * self.batch / value for value in self.seconds]


class LatencyEntry(Measured):
    """Decisions for a batch of environments whose window is full."""

    acting: str  # window or recurrent
    length: int  # tokens of the full window; for recurrent acting, tokens before the decision
    batch: int  # environments
    seconds: Seconds  # of each timed decision, for the complete batch


class MemoryEntry(Measured):
    """Peak memory of training steps: weights, gradients, optimiser and activations."""

    length: int
    batch: int
    megabytes: Annotated[float, Field(ge=0)]  # 10^6 bytes above the process's start: resident on a CPU, or CUDA's


class ActingEntry(Measured):
    """Environment steps played, simulator included."""

    acting: str  # window, recurrent, or the baseline alone: one environment that recomputes the complete model
    environments: int
    steps: int  # of a run, all environments together
    cpu_seconds: Seconds  # of each run, all threads

    @property
    def rate(self) -> list[float]:
        """Environment steps a CPU second, of each run."""
        return [self.steps / value for value in self.cpu_seconds]


class KernelEntry(Entry):
    """Forward and backward pass of one implementation of an operation."""

    operation: str
    implementation: str
    ours: bool  # false for another package's algorithm
    shape: tuple[int, ...]  # batch, length, channels, and for the scan states
    window: int | None
    seconds: tuple[float, ...] = ()  # of each timed run
    refused: str | None = None


class Report(Entry):
    """One run of ``bench speed``."""

    kind: Literal["speed"] = "speed"
    schema_version: Literal[1] = 1
    started: str  # ISO 8601 in UTC
    hardware: Hardware
    device: str
    threads: int
    dtype: str  # of training: float32, or bfloat16 under autocast
    python: str
    platform: str
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    config: dict[str, Any]
    wall_seconds: float
    models: Annotated[tuple[ModelEntry, ...], Field(alias="subjects")]
    missing: tuple[Missing, ...]
    training: tuple[TrainingEntry, ...] = ()  # at the configured context
    lengths: tuple[TrainingEntry, ...] = ()
    latency: tuple[LatencyEntry, ...] = ()  # at the configured context, over batches
    latency_lengths: tuple[LatencyEntry, ...] = ()
    memory: tuple[MemoryEntry, ...] = ()
    acting: tuple[ActingEntry, ...] = ()
    kernels: tuple[KernelEntry, ...] = ()
    scan_lengths: tuple[KernelEntry, ...] = ()  # the scan that ``auto`` takes

    @property
    def refused(self) -> list[str]:
        """Every model and implementation that failed its equality test, with the reason."""
        models = [(one.model, one.refused) for one in self.models]
        kernels = [(f"{one.operation} {one.implementation}", one.refused) for one in self.kernels]
        return [f"{name}: {reason}" for name, reason in models + kernels if reason]


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile."""
    low, median, high = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return median, low, high


def write(report: Report, folder: Path) -> Path:
    """Write speed.json, completely or not at all. OSError when that fails."""
    content = report.model_dump(mode="json", by_alias=True)
    write_whole(folder / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return folder / FILE


def read(path: Path) -> Report:
    """Read a report. UserError: no such file, or not a report of this version."""
    path = path / FILE if path.is_dir() else path
    try:
        return Report.model_validate(reading.read_json(path))
    except reading.ReadingError as error:
        raise UserError(f"{error}; measure first: bench speed --backbone gloma") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"{path} is not a report of bench speed ({where}: {first['msg']}); measure again") from error
