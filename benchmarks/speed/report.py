"""What ``bench speed`` leaves behind: speed.json, with every raw number, so that tables can be made from it again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backbench.errors import UserError
from backbench.leaderboard.record.schema import Hardware

FILE = "speed.json"
Seconds = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


class Part(BaseModel):
    """Base of every part: unknown fields, NaN and infinities are refused, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class SubjectEntry(Part):
    """One implementation of a policy: a backbone of ours, or a peer."""

    name: str
    """As in all other parts."""
    peer_of: str | None
    """The backbone of ours that it is compared with; None for one of ours."""
    parameters: int
    """Trainable parameters of the whole policy."""
    flops_per_token: float | None
    """Forward FLOPs of the backbone for a token, at the headline's length; None for a peer that does not count."""
    kernels: dict[str, str]
    """Operation to the implementation that ran."""
    checks: tuple[str, ...]
    """What it was compared with, and the largest error found."""
    refused: str | None
    """Why nothing of it was timed; None when all checks passed."""


class Missing(Part):
    """A peer that was asked for and is not here."""

    name: str
    reason: str
    """What is missing and the command that brings it."""


class TrainingEntry(Part):
    """A whole training step at one length."""

    subject: str
    length: int
    """Tokens of a window."""
    batch: int
    """Windows of a batch."""
    seconds: Seconds
    """Of each timed step."""

    @property
    def tokens_per_s(self) -> list[float]:
        """Of each timed step."""
        return [self.length * self.batch / value for value in self.seconds]


class LatencyEntry(Part):
    """Decisions for a batch of environments, with the window full."""

    subject: str
    acting: Literal["window", "recurrent"]
    length: int
    """Tokens of the full window; for recurrent acting, tokens that went before."""
    batch: int
    """Environments."""
    seconds: Seconds
    """Of each timed decision, for the whole batch."""


class MemoryEntry(Part):
    """Peak memory of training steps, from nothing to weights, gradients, optimiser and activations."""

    subject: str
    length: int
    batch: int
    megabytes: Annotated[float, Field(ge=0)]
    """10^6 bytes above what the process held before: resident on a CPU, allocated on CUDA."""


class ActingEntry(Part):
    """Environment steps played, simulator included."""

    subject: str
    acting: Literal["window", "recurrent", "alone"]
    """``alone`` is the baseline: one environment, the whole model recomputed on its window."""
    environments: int
    steps: int
    """Environment steps of a run, all environments together."""
    cpu_seconds: Seconds
    """Processor time of each run, of all threads."""

    @property
    def rate(self) -> list[float]:
        """Environment steps a CPU second, of each run."""
        return [self.steps / value for value in self.cpu_seconds]


class KernelEntry(Part):
    """Forward and backward pass of one implementation of an operation."""

    operation: str
    implementation: str
    ours: bool
    """False for another package's, or one that stands for it."""
    shape: tuple[int, ...]
    """(batch, length, channels), and for the scan the states."""
    window: int | None
    seconds: Annotated[tuple[float, ...], Field()]
    """Of each timed run; none when it was refused."""
    refused: str | None = None


class Report(Part):
    """One run of ``bench speed``."""

    kind: Literal["speed"] = "speed"
    schema_version: Literal[1] = 1
    started: str
    """ISO 8601 in UTC."""
    hardware: Hardware
    device: str
    threads: int
    dtype: str
    """Of training: float32, or bfloat16 under autocast."""
    python: str
    platform: str
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    config: dict[str, Any]
    """The settings of the run."""
    wall_seconds: float
    subjects: tuple[SubjectEntry, ...]
    missing: tuple[Missing, ...]
    training: tuple[TrainingEntry, ...]
    """At the headline's length."""
    lengths: tuple[TrainingEntry, ...]
    latency: tuple[LatencyEntry, ...]
    """At the headline's length, over batches."""
    latency_lengths: tuple[LatencyEntry, ...]
    memory: tuple[MemoryEntry, ...]
    acting: tuple[ActingEntry, ...]
    kernels: tuple[KernelEntry, ...]
    scan_lengths: tuple[KernelEntry, ...]
    """The fastest scan over lengths."""

    @property
    def refused(self) -> list[str]:
        """Everything that failed its equality test."""
        return [f"{one.name}: {one.refused}" for one in self.subjects if one.refused] + [
            f"{one.operation} {one.implementation}: {one.refused}" for one in self.kernels if one.refused
        ]


def middle(values: tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile."""
    low, median, high = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return median, low, high


def ratio(a: tuple[float, ...] | list[float], b: tuple[float, ...] | list[float]) -> tuple[float, float, float]:
    """a / b, paired by round, so that a machine that slows down slows both: median, 10th and 90th percentile."""
    return middle([x / y for x, y in zip(a, b, strict=False)])


def write(report: Report, folder: Path) -> Path:
    """Write speed.json, whole or not at all; OSError when that fails."""
    path = folder / FILE
    temporary = path.with_suffix(".json.tmp")
    try:
        temporary.write_text(json.dumps(report.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(path: Path) -> Report:
    """A report that was written. UserError: no such file, or not a report of this version."""
    path = path / FILE if path.is_dir() else path
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; measure first: bench speed --backbone gloma") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"{path} is not a report of bench speed ({where}: {first['msg']}); measure anew") from error
