"""Which cell a record is of, and how its agent was evaluated."""

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from backbench.leaderboard.record.fields import MOST, Amount, Mapping, Name, Part, Positive, Seed, Sha256, Text, Value
from backbench.leaderboard.scores.normalise import CITATIONS


class ModelShape(Part):
    """What is equal for every backbone in a comparison."""

    d_model: Positive = Field(description="Width of the residual stream, in features.")
    n_layers: Positive = Field(description="Number of residual layers.")
    dropout: float = Field(ge=0, lt=1, description="Probability of dropping a feature in training.")
    context: Positive = Field(description="K, in environment steps, that the model was trained with.")
    tokens_per_step: Positive = Field(description="Tokens per environment step (3: return-to-go, state, action).")
    extra: Mapping = Field(default={}, description="What else shapes the agent, such as its encoder.")


class DataSummary(Part):
    """The training data, by content."""

    id: Name = Field(description="Name of the data set in its store, such as ``embedded/hopper-medium-v0``.")
    sha256: Sha256 = Field(description="Hash of the content. Records with different hashes are not compared.")
    episodes: Positive = Field(description="Number of episodes.")
    steps: Positive = Field(description="Number of environment steps in all episodes.")
    return_mean: Value = Field(description="Mean undiscounted return of an episode, raw.")
    return_std: Amount = Field(description="Standard deviation of the episodes' returns (population), raw.")
    return_min: Value = Field(description="Smallest return of an episode, raw.")
    return_max: Value = Field(description="Largest return of an episode, raw.")
    normalised_mean: Value = Field(description="``return_mean`` under the protocol's normaliser, a normalised score.")
    rewards: Literal["raw", "clipped"] = Field(default="raw", description="``clipped``: each to [-1, 1], here as well.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        slack = 1e-6 * max(1.0, abs(self.return_min), abs(self.return_max))
        if not self.return_min - slack <= self.return_mean <= self.return_max + slack:
            raise ValueError("return_mean lies outside return_min .. return_max")
        return self


class Identity(Part):
    """Which cell this is: all that a reader needs to know what was compared with what."""

    backbone: Name = Field(description="Registered name, or ``package.module:Class`` of a plug-in.")
    options: Mapping = Field(description="The backbone's own options as resolved, defaults included.")
    model: ModelShape = Field(description="The shared shape around the backbone.")
    suite: Name = Field(description="Suite of the task, such as ``d4rl``.")
    task: Name = Field(description="Task, such as ``hopper-medium-replay``.")
    source: Name = Field(description="``embedded``, ``d4rl``, ``minari``, ``dqn-replay``, or ``local`` for own data.")
    environment: Name = Field(description="Id of the evaluation environment with its version, such as ``Hopper-v5``.")
    suite_tasks: tuple[Name, ...] = Field(default=(), description="All tasks of a user's suite. Empty for Backbench's.")
    data: DataSummary | None = Field(description="The training data. None only in a failed record without its data.")
    preset: Name = Field(description="``smoke``, ``quick``, ``paper`` or a user's own.")
    seed: Seed = Field(description="Seed of initialisation and training.")
    variant: Text = Field(default="", description="Overrides of the preset, such as ``train.lr=0.001``. A row each.")


class Protocol(Part):
    """How the agent was evaluated. Scores under different protocols are not compared."""

    context: Positive = Field(description="K when acting, in environment steps.")
    targets: tuple[Value, ...] = Field(min_length=1, description="Target returns, the headline's first.")
    returns_to_go: Literal["raw", "clipped", "mixed"] = Field(
        default="raw",
        description="Rewards that returns-to-go sum: ``clipped`` to [-1, 1] each; ``mixed``: clipped in training only.",
    )
    return_scale: float | None = Field(default=None, gt=0, le=MOST, description="Divides returns-to-go, where known.")
    episodes: Positive = Field(description="Episodes per target.")
    acting: Literal["window", "recurrent"] = Field(description="Recomputed over the last K steps, or a carried state.")
    timestep: Literal["first", "current"] = Field(
        default="first",
        description="Timestep of a window whose tokens share one: that of its first step, or the current one.",
    )
    head: Name | None = Field(default=None, description="The action head, such as ``tanh``. None in older records.")
    sampling: Name = Field(description="How an action is taken from the head, such as ``deterministic``, ``greedy``.")
    max_steps: Positive = Field(description="Longest episode, in environment steps.")
    eval_seed: Seed = Field(description="Seed of the evaluation environments, separate from the training seed.")
    normaliser: str = Field(description="Name of the score's scale, a key of ``scores.normalise.CITATIONS``.")
    reference: tuple[Value, Value] | None = Field(
        default=None, description="Returns that score 0 and 100 if ``declared``."
    )
    environment: Mapping = Field(default={}, description="Its conventions, such as action repeat and no-ops in Atari.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.normaliser not in CITATIONS:
            raise ValueError(f"no normaliser {self.normaliser!r}; there is: {', '.join(CITATIONS)}")
        if (self.reference is not None) != (self.normaliser == "declared"):
            raise ValueError("reference goes with normaliser 'declared', and only with it")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets names the same target return twice")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Records from before these fields keep their text, and with it their checksums and the board's digest.
        unused = {"head": None, "timestep": "first"}
        return {name: value for name, value in dump(self).items() if name not in unused or value != unused[name]}
