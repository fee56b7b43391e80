"""The schema of a record: one published cell (backbone x task x seed), done or failed.
Reading is strict (a string is no number). Building a record in Python is lax: NumPy scalars and lists may be passed."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from backbench.leaderboard.record.cell import DataSummary, Identity, ModelShape, Protocol
from backbench.leaderboard.record.fields import Amount, Mapping, Name, Part, Positive, Sha256, Text, close
from backbench.leaderboard.record.outcome import (
    CheckpointScores,
    Cost,
    Curve,
    Evaluation,
    Failure,
    HeldOut,
    Latency,
    LongerScore,
    Scores,
    TargetScore,
)
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import normalise

__all__ = [
    "CheckpointScores", "Cost", "Curve", "DataSummary", "Evaluation", "Failure", "Hardware", "HeldOut", "Identity",
    "Latency", "LongerScore", "ModelShape", "Part", "Processor", "Protocol", "Provenance", "Record", "Scores",
    "TargetScore",
]  # fmt: skip

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
SCHEMA_VERSION = 1


class Processor(Part):
    """What decides the last digits of a result, as the system and the libraries tell it."""

    vendor: Text = Field(description="Such as ``AuthenticAMD``.")
    family: Text = Field(description="Number of the family.")
    model: Text = Field(description="Number of the model in its family.")
    stepping: Text = Field(description="Its revision.")
    instructions: tuple[Name, ...] = Field(description="Instruction sets, as Linux names them.")
    blas: Text = Field(description="NumPy's BLAS and the kernel that it chose.")
    torch: Text = Field(description="PyTorch's instruction set, and whether its BLAS is MKL.")
    libc: Text = Field(description="C library, whose functions simulators call.")

    @property
    def kind(self) -> tuple[object, ...]:
        """What is equal for processors of one kind."""
        return self.vendor, self.family, self.model, self.stepping, self.instructions


class Hardware(Part):
    """The machine, without its name."""

    cpu: Text = Field(description="Model of the processor.")
    cores: Positive = Field(description="Cores that the process may use.")
    memory_mb: Amount = Field(description="Main memory in megabytes (10^6 bytes).")
    gpu: Text | None = Field(default=None, description="Model of the accelerator. None when none was used.")
    processor: Processor | None = Field(default=None, description="The processor in detail. None in older records.")

    @model_serializer(mode="wrap")
    def _without_unknown(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Records from before this field keep their text, and with it their checksums.
        return {name: value for name, value in dump(self).items() if name != "processor" or value is not None}


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

    @property
    def machine(self) -> tuple[object, ...]:
        """The kind of machine. Two machines of one kind cannot be told apart: a record names no host."""
        at = self.hardware
        return at.cpu, at.gpu, self.platform, None if at.processor is None else at.processor.kind

    @model_validator(mode="after")
    def _utc(self) -> Self:
        try:
            offset = datetime.fromisoformat(self.started).utcoffset()
        except ValueError:
            offset = None
        if offset != timedelta(0):
            raise ValueError(f"started {self.started!r} is no ISO 8601 time in UTC, such as 2026-01-31T12:00:00Z")
        return self


class Record(Part):
    """One cell of the grid, done or failed."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    key: str = Field(
        pattern=r"^[A-Za-z0-9._+=-]+$", max_length=200, description="Stable name of the cell and its file."
    )
    status: Literal["done", "failed"] = Field(description="Done: with scores and cost. Failed: with a failure only.")
    identity: Identity = Field(description="Which cell.")
    protocol: Protocol = Field(description="How it was evaluated.")
    scores: Scores | None = Field(default=None, description="Its scores.")
    cost: Cost | None = Field(default=None, description="What they cost.")
    curve: Curve = Field(default=Curve(), description="How training went.")
    provenance: Provenance = Field(description="Where it came from.")
    failure: Failure | None = Field(default=None, description="Why it failed.")

    @property
    def headline(self) -> TargetScore | None:
        """The score of the row: last checkpoint, first target. None when the cell failed."""
        return None if self.scores is None else self.scores.last.targets[0]

    def target_scores(self) -> Iterator[tuple[str, TargetScore]]:
        """(dotted path, score) of every target of the last and the best checkpoint."""
        for name in ("last", "best"):
            checkpoint = getattr(self.scores, name, None)
            for index, score in enumerate(checkpoint.targets if checkpoint else ()):
                yield f"scores.{name}.targets.{index}", score

    def longer_scores(self) -> Iterator[tuple[str, LongerScore]]:
        """(dotted path, score) of every evaluation on longer episodes."""
        for index, one in enumerate(self.scores.longer if self.scores else ()):
            yield f"scores.longer.{index}", one

    @model_validator(mode="after")
    def _complete(self) -> Self:
        scored = ("scores", "cost", "identity.data", "provenance.weights_sha256")
        needed, refused = (scored, "failure") if self.status == "done" else (("failure",), "scores")
        for name in needed:
            if attrgetter(name)(self) is None:
                raise ValueError(f"{name} is missing, and status is {self.status!r}")
        if getattr(self, refused) is not None:
            raise ValueError(f"{refused} is there, and status is {self.status!r}")
        return self

    @model_validator(mode="after")
    def _as_declared(self) -> Self:
        if self.scores is None:
            return self
        declared = self.protocol.targets
        if tuple(score.target for score in self.scores.last.targets) != declared:
            raise ValueError("scores.last does not hold exactly the targets of protocol.targets, in their order")
        for where, score in self.target_scores():
            if score.target not in declared:
                raise ValueError(f"{where}.target {score.target!r} is not in protocol.targets")
            if len(score.returns) != self.protocol.episodes:
                raise ValueError(f"{where}.returns has {len(score.returns)} of {self.protocol.episodes} episodes")
            if max(score.lengths) > self.protocol.max_steps:
                raise ValueError(f"{where}.lengths has an episode longer than protocol.max_steps")
        order = [(one.times, one.acting) for _, one in self.longer_scores()]
        if len(set(order)) < len(order) or [times for times, _ in order] != sorted(times for times, _ in order):
            raise ValueError("scores.longer is not in order of its lengths, or has one twice")
        for where, one in self.longer_scores():
            if one.score.target != declared[0] or len(one.score.returns) != self.protocol.episodes:
                raise ValueError(f"{where}.score is not of the headline's target and episodes")
            if one.context != one.times * self.protocol.context or max(one.score.lengths) > one.max_steps:
                raise ValueError(f"{where} has another window than its length says, or too long an episode")
        return self

    @model_validator(mode="after")
    def _task_of_its_suite(self) -> Self:
        task, tasks = self.identity.task, SUITES.get(self.identity.suite)
        if tasks is not None and task not in tasks:
            raise ValueError(f"identity.task {task!r} is none of suite {self.identity.suite!r}: {', '.join(tasks)}")
        return self

    @model_validator(mode="after")
    def _normalised_as_named(self) -> Self:
        protocol, data = self.protocol, self.identity.data
        pairs = [] if data is None else [("identity.data.normalised_mean", data.return_mean, data.normalised_mean)]
        pairs += [(f"{at}.normalised_mean", one.raw_mean, one.normalised_mean) for at, one in self.target_scores()]
        pairs += [(f"{at}.score", one.score.raw_mean, one.score.normalised_mean) for at, one in self.longer_scores()]
        pairs += [(f"curve.evaluations (step {e.step})", e.raw, e.normalised) for e in self.curve.evaluations]
        for where, raw, normalised in pairs:
            try:
                expected = normalise(protocol.normaliser, self.identity.task, raw, protocol.reference)
            except KeyError as error:
                raise ValueError(str(error.args[0])) from None
            if not math.isfinite(expected) or not close(normalised, expected, abs(expected)):
                raise ValueError(
                    f"{where} {normalised!r} is not {raw!r} under normaliser {protocol.normaliser!r}, {expected!r}"
                )
        return self
