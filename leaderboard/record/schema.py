"""The schema of a record: one cell (backbone x task x seed) that is done or has failed, as published.

A record is read as written or refused, never guessed at. Reading is strict (a string is no number); building one in
Python is lax, so NumPy scalars and lists may be passed. ``files`` reads and
writes them.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import CITATIONS, normalise
from backbench.leaderboard.trust.privacy import without_paths

SCHEMA_VERSION = 1

# Far beyond what can be, and far below where sums and squares overflow.
_MOST, _MOST_COUNTED = 1e12, 10**15
Count = Annotated[int, Field(ge=0, le=_MOST_COUNTED)]
Positive = Annotated[int, Field(ge=1, le=_MOST_COUNTED)]
Amount = Annotated[float, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Value = Annotated[float, Field(ge=-_MOST, le=_MOST)]
Loss = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]  # what float32 holds: a training may come back from there
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\s/\\](.*\S)?$")]
# Free text and free mappings lose absolute paths when the record is built: what is published names no user's folders.
Text = Annotated[str, AfterValidator(without_paths)]
Mapping = Annotated[dict[str, JsonValue], AfterValidator(without_paths)]


class Part(BaseModel):
    """Base of every part: unknown fields, NaN and infinities are refused, and nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class ModelShape(Part):
    """What is equal for every backbone that is compared."""

    d_model: Positive
    """Width of the residual stream, in features."""
    n_layers: Positive
    """Number of residual layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Probability of dropping a feature in training."""
    context: Positive
    """K, in environment steps, that the model was trained with."""
    tokens_per_step: Positive
    """Tokens per environment step (3: return-to-go, state, action)."""
    extra: Mapping = {}
    """Whatever else shapes the agent, such as the action head; no unit of its own."""


class DataSummary(Part):
    """The training data, by content."""

    id: Name
    """Name of the data set in its store, such as ``embedded/hopper-medium-v0``."""
    sha256: Sha256
    """Hash of the content, 64 hex digits: two records with different hashes are not compared."""
    episodes: Positive
    """Number of episodes."""
    steps: Positive
    """Number of environment steps in all episodes."""
    return_mean: Value
    """Mean undiscounted return of an episode, raw."""
    return_std: Amount
    """Standard deviation of the episodes' returns (population), raw."""
    return_min: Value
    """Smallest return of an episode, raw."""
    return_max: Value
    """Largest return of an episode, raw."""
    normalised_mean: Value
    """``return_mean`` under the protocol's normaliser, in its points."""
    rewards: Literal["raw", "clipped"] = "raw"
    """``clipped``: the data hold each reward clipped to [-1, 1], and returns here are of those, not of the game."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        slack = 1e-6 * max(1.0, abs(self.return_min), abs(self.return_max))
        if not self.return_min - slack <= self.return_mean <= self.return_max + slack:
            raise ValueError("return_mean lies outside return_min .. return_max")
        return self


class Identity(Part):
    """Which cell this is: all that a reader needs to know what was compared with what."""

    backbone: Name
    """Registered name, or ``package.module:Class`` of a plug-in."""
    options: Mapping
    """The backbone's own options as resolved, defaults included."""
    model: ModelShape
    """The shared shape around the backbone."""
    suite: Name
    """Suite the task belongs to, such as ``d4rl``."""
    task: Name
    """Task, such as ``hopper-medium-replay``."""
    source: Name
    """Where the data came from: ``embedded``, ``d4rl``, ``minari``, ``dqn-replay``, or ``local`` for the user's own."""
    environment: Name
    """Id of the evaluation environment with its version, such as ``Hopper-v5``."""
    suite_tasks: tuple[Name, ...] = ()
    """All tasks of a suite of the user's own, so that aggregates have a meaning; empty for those of Backbench."""
    data: DataSummary | None
    """The training data; None only in a failed record whose data could not be had."""
    preset: Name
    """``smoke``, ``quick``, ``paper`` or a user's own."""
    seed: Seed
    """Seed of initialisation and training."""
    variant: Text = ""
    """What differs from the preset, such as ``train.lr=0.001``; empty when nothing does. A row of its own."""


class Protocol(Part):
    """How the agent was evaluated; scores under different protocols are not compared."""

    context: Positive
    """K when acting, in environment steps."""
    targets: Annotated[tuple[Value, ...], Field(min_length=1)]
    """Target returns, declared before the run, on the scale of ``returns_to_go``; the first one is the headline's."""
    returns_to_go: Literal["raw", "clipped", "mixed"] = "raw"
    """Rewards that returns-to-go are sums of: ``clipped`` to [-1, 1] each; ``mixed``: clipped in training only."""
    return_scale: Annotated[float, Field(gt=0, le=_MOST)] | None = None
    """Returns-to-go are divided by it, in training as in acting; None where a record does not say."""
    episodes: Positive
    """Episodes per target."""
    acting: Literal["window", "recurrent"]
    """``window`` recomputes over the last K steps, ``recurrent`` carries a state."""
    head: str | None = None
    """Name of the action head: ``tanh`` or ``categorical``; None where a record does not say."""
    sampling: Name
    """How an action is taken from the head: ``deterministic``, ``greedy``, ``sampled at T=1``."""
    max_steps: Positive
    """Longest episode, in environment steps."""
    eval_seed: Seed
    """Seed of the evaluation environments; apart from the training seed."""
    normaliser: str
    """Name of the score's scale, a key of ``backbench.leaderboard.scores.normalise.CITATIONS``."""
    reference: tuple[Value, Value] | None = None
    """Raw returns that score 0 and 100 under the normaliser ``declared``; None under the others, which know theirs."""
    environment: Mapping = {}
    """Conventions of the environment beyond its id, such as action repeat and no-ops of a game; empty when none."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.normaliser not in CITATIONS:
            raise ValueError(f"no normaliser {self.normaliser!r}; there is: {', '.join(CITATIONS)}")
        if (self.reference is not None) != (self.normaliser == "declared"):
            raise ValueError("reference goes with normaliser 'declared', and only with it")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets names the same target return twice")
        return self


class TargetScore(Part):
    """Every episode that was played for one target return."""

    target: Value
    """Target return that the agent was conditioned on, on the scale of the protocol's ``returns_to_go``."""
    returns: Annotated[tuple[Value, ...], Field(min_length=1)]
    """Undiscounted return of each episode, raw, in the order of their seeds."""
    lengths: tuple[Positive, ...]
    """Length of each episode, in environment steps."""
    raw_mean: Value
    """Mean of ``returns``, raw."""
    normalised_mean: Value
    """``raw_mean`` under the protocol's normaliser, in its points."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.lengths) != len(self.returns):
            raise ValueError(f"lengths has {len(self.lengths)} episodes, returns has {len(self.returns)}")
        mean = math.fsum(self.returns) / len(self.returns)
        if not _close(self.raw_mean, mean, max(abs(value) for value in self.returns)):
            raise ValueError(f"raw_mean {self.raw_mean!r} is not the mean of returns, {mean!r}")
        return self


class CheckpointScores(Part):
    """One checkpoint's evaluation."""

    step: Count
    """Training step (optimiser updates) of the checkpoint."""
    targets: Annotated[tuple[TargetScore, ...], Field(min_length=1)]
    """One entry per target return, in the protocol's order."""


class Scores(Part):
    """The last checkpoint is the score; the best one is a labelled extra, since choosing it has seen the evaluation."""

    last: CheckpointScores
    """After the last training step, every target of the protocol."""
    best: CheckpointScores | None = None
    """The best of the intermediate evaluations, full number of episodes, at least one of the protocol's targets."""


class Latency(Part):
    """Wall time of one decision of the agent, the environment's own step excluded."""

    p50_ms: Amount
    """Median, in milliseconds."""
    p95_ms: Amount
    """95th percentile, in milliseconds."""
    batch: Positive
    """Environments that were decided for at once; the times are for the whole batch."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p50_ms > self.p95_ms:
            raise ValueError("p50_ms is larger than p95_ms")
        return self


class Cost(Part):
    """What the score was paid with."""

    parameters_total: Count
    """Trainable parameters of the whole agent."""
    parameters_backbone: Count
    """Of these, the backbone's."""
    flops_per_token: Annotated[float, Field(ge=0, le=_MOST_COUNTED)] | None
    """Floating-point operations of a forward pass, per token at the training length; None when nobody counted."""
    train_tokens_per_s: Amount
    """Tokens trained on per second of training, warm-up and evaluation excluded."""
    train_seconds: Amount
    """Wall time of training, in seconds, evaluation excluded."""
    eval_seconds: Amount
    """Wall time of all evaluations, in seconds."""
    cpu_seconds: Amount
    """Processor time of the process, user and system, in seconds: what energy is proportional to on a CPU."""
    decision: Latency
    """Time of a decision."""
    peak_memory_mb: Amount
    """Peak memory in megabytes (10^6 bytes): of the device on a GPU, of the process on a CPU."""
    wall_seconds: Amount
    """Wall time of the cell from start to record, in seconds."""

    @model_validator(mode="after")
    def _part_of_whole(self) -> Self:
        if self.parameters_backbone > self.parameters_total:
            raise ValueError("parameters_backbone is larger than parameters_total")
        return self


class Evaluation(Part):
    """An intermediate evaluation, headline target."""

    step: Count
    """Training step (optimiser updates)."""
    raw: Value
    """Mean return, raw."""
    normalised: Value
    """Mean return under the protocol's normaliser, in its points."""


class Curve(Part):
    """How training went; thinned, for a picture."""

    loss: tuple[tuple[Count, Loss], ...] = ()
    """(training step, training loss) in increasing order of steps."""
    evaluations: tuple[Evaluation, ...] = ()
    """Intermediate evaluations in increasing order of steps."""

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        for name, steps in (
            ("loss", [step for step, _ in self.loss]),
            ("evaluations", [evaluation.step for evaluation in self.evaluations]),
        ):
            if any(later <= earlier for earlier, later in pairwise(steps)):
                raise ValueError(f"{name} is not in increasing order of steps")
        return self


class Hardware(Part):
    """The machine, without its name."""

    cpu: Text
    """Model of the processor."""
    cores: Positive
    """Cores that the process may use."""
    memory_mb: Amount
    """Main memory in megabytes (10^6 bytes)."""
    gpu: Text | None = None
    """Model of the accelerator; None when none was used."""


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
    """Hash of the last checkpoint's weights; None only in a failed record."""
    git_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    """Commit of the code; None when it ran from an installed package."""
    git_dirty: bool | None = None
    """Whether the code differed from the commit; None when that is not known."""
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


class Failure(Part):
    """Why a cell has no score."""

    type: Name
    """Class of the error, such as ``NonFiniteLoss``."""
    message: Text
    """What it said."""
    step: Count | None = None
    """Training step (optimiser updates) it happened at; None before training."""
    lr: Annotated[float, Field(ge=0)] | None = None
    """Learning rate at that step; None when not training."""


class Record(Part):
    """One cell of the grid, done or failed."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+=-]+$", max_length=200)]
    """Stable name of the cell, see ``cell_key``; the file is called ``<key>.json``."""
    status: Literal["done", "failed"]
    """A done record has scores and cost, a failed one has a failure and no scores."""
    identity: Identity
    """Which cell."""
    protocol: Protocol
    """How it was evaluated."""
    scores: Scores | None = None
    """Its scores."""
    cost: Cost | None = None
    """What they cost."""
    curve: Curve = Curve()
    """How training went."""
    provenance: Provenance
    """Where it came from."""
    failure: Failure | None = None
    """Why it failed."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status == "failed":
            if self.failure is None:
                raise ValueError("failure is missing, and status is 'failed'")
            if self.scores is not None:
                raise ValueError("scores is there, and status is 'failed'")
        else:
            if self.failure is not None:
                raise ValueError("failure is there, and status is 'done'")
            for name, value in (
                ("scores", self.scores),
                ("cost", self.cost),
                ("identity.data", self.identity.data),
                ("provenance.weights_sha256", self.provenance.weights_sha256),
            ):
                if value is None:
                    raise ValueError(f"{name} is missing, and status is 'done'")
        return self

    @model_validator(mode="after")
    def _as_declared(self) -> Self:
        if self.scores is None:
            return self
        declared = self.protocol.targets
        if tuple(score.target for score in self.scores.last.targets) != declared:
            raise ValueError("scores.last does not hold exactly the targets of protocol.targets, in their order")
        for name, checkpoint in (("last", self.scores.last), ("best", self.scores.best)):
            for index, score in enumerate(checkpoint.targets if checkpoint else ()):
                where = f"scores.{name}.targets.{index}"
                if score.target not in declared:
                    raise ValueError(f"{where}.target {score.target!r} is not in protocol.targets")
                if len(score.returns) != self.protocol.episodes:
                    raise ValueError(f"{where}.returns has {len(score.returns)} of {self.protocol.episodes} episodes")
                if max(score.lengths) > self.protocol.max_steps:
                    raise ValueError(f"{where}.lengths has an episode longer than protocol.max_steps")
        return self

    @model_validator(mode="after")
    def _task_of_its_suite(self) -> Self:
        tasks, task = SUITES.get(self.identity.suite), self.identity.task
        if tasks is not None and task not in tasks:
            raise ValueError(f"identity.task {task!r} is none of suite {self.identity.suite!r}: {', '.join(tasks)}")
        return self

    @model_validator(mode="after")
    def _normalised_as_named(self) -> Self:
        # The one cited must be the one used.
        pairs: list[tuple[str, float, float]] = []
        if self.identity.data is not None:
            data = self.identity.data
            pairs.append(("identity.data.normalised_mean", data.return_mean, data.normalised_mean))
        for name in ("last", "best"):
            checkpoint = getattr(self.scores, name, None)
            for index, score in enumerate(checkpoint.targets if checkpoint else ()):
                pairs.append((f"scores.{name}.targets.{index}.normalised_mean", score.raw_mean, score.normalised_mean))
        for evaluation in self.curve.evaluations:
            pairs.append((f"curve.evaluations (step {evaluation.step})", evaluation.raw, evaluation.normalised))
        for where, raw, normalised in pairs:
            try:
                expected = normalise(self.protocol.normaliser, self.identity.task, raw, self.protocol.reference)
            except KeyError as error:
                raise ValueError(str(error.args[0])) from None
            if not math.isfinite(expected) or not _close(normalised, expected, abs(expected)):
                raise ValueError(
                    f"{where} {normalised!r} is not {raw!r} under normaliser {self.protocol.normaliser!r}, {expected!r}"
                )
        return self

    @property
    def headline(self) -> TargetScore | None:
        """The score of the row: last checkpoint, first target; None when the cell failed."""
        return None if self.scores is None else self.scores.last.targets[0]


def _close(value: float, expected: float, scale: float) -> bool:
    """Equal up to a mean taken in another order in float64; float32 means (1e-7 relative) pass as well."""
    return abs(value - expected) <= 1e-6 * max(1.0, scale)
