"""What came of a cell: scores, costs, curves, or a failure."""

import math
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from backbench.leaderboard.record.fields import Amount, Count, Flops, Loss, Name, Part, Positive, Text, Value, close


class TargetScore(Part):
    """Every episode that was played for one target return."""

    target: Value = Field(description="Target return, on the scale of the protocol's ``returns_to_go``.")
    returns: tuple[Value, ...] = Field(min_length=1, description="Raw return of each episode, in the order of seeds.")
    lengths: tuple[Positive, ...] = Field(description="Length of each episode, in environment steps.")
    raw_mean: Value = Field(description="Mean of ``returns``, raw.")
    normalised_mean: Value = Field(description="``raw_mean`` under the protocol's normaliser, a normalised score.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.lengths) != len(self.returns):
            raise ValueError(f"lengths has {len(self.lengths)} episodes, returns has {len(self.returns)}")
        mean = math.fsum(self.returns) / len(self.returns)
        if not close(self.raw_mean, mean, max(abs(value) for value in self.returns)):
            raise ValueError(f"raw_mean {self.raw_mean!r} is not the mean of returns, {mean!r}")
        return self


class CheckpointScores(Part):
    """One checkpoint's evaluation."""

    step: Count = Field(description="Training step (optimiser updates) of the checkpoint.")
    targets: tuple[TargetScore, ...] = Field(min_length=1, description="One per target, in the protocol's order.")


class LongerScore(Part):
    """The last checkpoint on longer episodes than it was trained on, with the headline's target and starts."""

    times: Positive = Field(description="Length of the episodes, as a multiple of the data's.")
    acting: Literal["window", "recurrent"] = Field(description="Recomputed over the last steps, or a carried state.")
    context: Positive = Field(description="Steps of a window: ``times`` the protocol's.")
    max_steps: Positive = Field(description="Longest episode, in environment steps.")
    lag: Positive | None = Field(description="Most steps from what an answer needs to the answer. None: unknown.")
    score: TargetScore = Field(description="Every episode.")

    @property
    def beyond(self) -> bool:
        """Whether an answer needs more steps than the windows of training held."""
        return self.lag is not None and self.lag >= self.context // self.times


class HeldOut(Part):
    """The last checkpoint's loss on episodes that training never saw (``data.held_out``)."""

    episodes: Positive = Field(description="Number of held-out episodes.")
    steps: Positive = Field(description="Their steps, each of which counts once.")
    loss: Loss = Field(description="Mean training loss over the steps: in nats, or the squared error of actions.")


class Scores(Part):
    """The last checkpoint is the score. The best one is an extra: to choose it, the evaluation was used."""

    last: CheckpointScores = Field(description="After the last training step, every target of the protocol.")
    best: CheckpointScores | None = Field(default=None, description="The best one, at least one of the targets.")
    longer: tuple[LongerScore, ...] = Field(default=(), description="The last one on longer episodes, by length.")
    held_out: HeldOut | None = Field(default=None, description="The last one's loss on held-out episodes, if any.")

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Records without these fields have the text that they had before them.
        return {name: value for name, value in dump(self).items() if name not in ("longer", "held_out") or value}


class Latency(Part):
    """Wall time of one decision of the agent, without the environment's own step."""

    p50_ms: Amount = Field(description="Median, in milliseconds.")
    p95_ms: Amount = Field(description="95th percentile, in milliseconds.")
    batch: Positive = Field(description="Environments per decision. The times are for the complete batch.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p50_ms > self.p95_ms:
            raise ValueError("p50_ms is larger than p95_ms")
        return self


PASSES = 3  # FLOPs of training over those of a forward pass: a backward pass takes about twice as many


class Cost(Part):
    """What the score cost."""

    parameters_total: Count = Field(description="Trainable parameters of the complete agent.")
    parameters_backbone: Count = Field(description="Of these, the backbone's.")
    flops_per_token: Flops | None = Field(description="FLOPs of a forward pass at the training length. None: unknown.")
    flops_estimated: bool = Field(default=False, description="Whether some weights count as one product each.")
    state_bytes: Count | None = Field(
        default=None, description="What protocol recurrent carries for one environment. None: an older record."
    )
    train_tokens_per_s: Amount = Field(description="Tokens per second of training, without warm-up and evaluation.")
    train_seconds: Amount = Field(description="Wall time of training, in seconds, without evaluation.")
    eval_seconds: Amount = Field(description="Wall time of all evaluations, in seconds.")
    cpu_seconds: Amount = Field(description="Processor time of the process, user and system, in seconds.")
    decision: Latency = Field(description="Time of a decision.")
    peak_memory_mb: Amount = Field(description="Peak memory of the GPU or the process, in megabytes (10^6 bytes).")
    wall_seconds: Amount = Field(description="Wall time of the cell from start to record, in seconds.")

    @model_serializer(mode="wrap")
    def _without_added(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Records without these fields keep the text that they had before them.
        added = {"flops_estimated": False, "state_bytes": None}
        return {name: value for name, value in dump(self).items() if name not in added or value != added[name]}

    @model_validator(mode="after")
    def _part_of_total(self) -> Self:
        if self.parameters_backbone > self.parameters_total:
            raise ValueError("parameters_backbone is larger than parameters_total")
        return self


class Evaluation(Part):
    """An intermediate evaluation, headline target."""

    step: Count = Field(description="Training step (optimiser updates).")
    raw: Value = Field(description="Mean return, raw.")
    normalised: Value = Field(description="Mean return under the protocol's normaliser, a normalised score.")


class Curve(Part):
    """How training went, thinned for a plot."""

    loss: tuple[tuple[Count, Loss], ...] = Field(default=(), description="(training step, training loss), by step.")
    evaluations: tuple[Evaluation, ...] = Field(default=(), description="Intermediate evaluations, by step.")

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        steps = {"loss": [step for step, _ in self.loss], "evaluations": [one.step for one in self.evaluations]}
        for name, found in steps.items():
            if any(later <= earlier for earlier, later in pairwise(found)):
                raise ValueError(f"{name} is not in increasing order of steps")
        return self


class Failure(Part):
    """Why a cell has no score."""

    type: Name = Field(description="Class of the error, such as ``NonFiniteLoss``.")
    message: Text = Field(description="The error's message.")
    step: Count | None = Field(default=None, description="Training step of the error. None before training.")
    lr: float | None = Field(default=None, ge=0, description="Learning rate at that step. None when not training.")

    @property
    def reason(self) -> str:
        """Type, message and step in one text."""
        return f"{self.type}: {self.message}" + ("" if self.step is None else f" (step {self.step})")
