"""Where a record's numbers came from."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from backbench.leaderboard.record.fields import Amount, Mapping, Name, Part, Positive, Sha256, Text


class Hardware(Part):
    """The machine, without its name."""

    cpu: Text
    """Model of the processor."""
    cores: Positive
    """Cores that the process may use."""
    memory_mb: Amount
    """Main memory in megabytes (10^6 bytes)."""
    gpu: Text | None = None
    """Model of the accelerator. None when none was used."""


class Provenance(Part):
    """Where the numbers came from, without absolute paths, host or user names."""

    kernels: dict[str, str]
    """Operation -> implementation that ran, such as ``{"selective_scan": "c"}``."""
    device: Name
    """``cpu``, ``cuda``, ..."""
    dtype: Name
    """Type that training computed in, such as ``float32``."""
    threads: Positive
    """Threads of a CPU operation."""
    weights_sha256: Sha256 | None = None
    """Hash of the last checkpoint's weights. None only in a failed record."""
    git_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    """Commit of the code. None when it ran from an installed package."""
    git_dirty: bool | None = None
    """Whether the code differed from the commit. None when that is not known."""
    packages: dict[str, str]
    """Distribution -> version of what the numbers depend on, ``backbench`` included."""
    hardware: Hardware
    """The machine."""
    python: Name
    """Version of the interpreter."""
    platform: Text
    """Operating system and architecture."""
    started: str
    """When the cell began, ISO 8601 in UTC, such as ``2026-01-31T12:00:00Z``."""
    config: Mapping
    """The configuration as resolved."""
    command: Text
    """The command that made the record."""

    @model_validator(mode="after")
    def _utc(self) -> Self:
        try:
            offset = datetime.fromisoformat(self.started).utcoffset()
        except ValueError:
            offset = None
        if offset != timedelta(0):
            raise ValueError(f"started {self.started!r} is no ISO 8601 time in UTC, such as 2026-01-31T12:00:00Z")
        return self
