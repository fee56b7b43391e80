"""Where a record's numbers came from."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from backbench.leaderboard.record.fields import Amount, Mapping, Name, Part, Positive, Sha256, Text

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]


class Hardware(Part):
    """The machine, without its name."""

    cpu: Text = Field(description="Model of the processor.")
    cores: Positive = Field(description="Cores that the process may use.")
    memory_mb: Amount = Field(description="Main memory in megabytes (10^6 bytes).")
    gpu: Text | None = Field(default=None, description="Model of the accelerator. None when none was used.")


class Provenance(Part):
    """Where the numbers came from, without absolute paths, host or user names."""

    kernels: dict[str, str] = Field(description="Operation -> implementation that ran, such as ``c``.")
    device: Name = Field(description="``cpu``, ``cuda``, ...")
    dtype: Name = Field(description="Type that training computed in, such as ``float32``.")
    threads: Positive = Field(description="Threads of a CPU operation.")
    weights_sha256: Sha256 | None = Field(
        default=None, description="Hash of the weights. None only in a failed record."
    )
    git_commit: Commit | None = Field(default=None, description="Commit of the code. None for an installed package.")
    git_dirty: bool | None = Field(default=None, description="Whether the code differed from its commit, if known.")
    packages: dict[str, str] = Field(description="Distribution -> version of what the numbers depend on.")
    hardware: Hardware = Field(description="The machine.")
    python: Name = Field(description="Version of the interpreter.")
    platform: Text = Field(description="Operating system and architecture.")
    started: str = Field(description="When the cell began, ISO 8601 in UTC, such as ``2026-01-31T12:00:00Z``.")
    config: Mapping = Field(description="The configuration as resolved.")
    command: Text = Field(description="The command that made the record.")

    @model_validator(mode="after")
    def _utc(self) -> Self:
        try:
            offset = datetime.fromisoformat(self.started).utcoffset()
        except ValueError:
            offset = None
        if offset != timedelta(0):
            raise ValueError(f"started {self.started!r} is no ISO 8601 time in UTC, such as 2026-01-31T12:00:00Z")
        return self
