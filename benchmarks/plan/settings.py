"""The typed settings of a run, frozen dataclasses all the way; Hydra fills them at the edge (``compose``)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.kind import EnvironmentKind, EnvironmentSpec
from backbench.benchmarks.plan.suites import Task
from backbench.errors import UserError, require
from backbench.leaderboard.record.files import cell_key
from backbench.leaderboard.trust.verify import config_digest

# What there is to choose from, said here as well so that settings are read without torch.
TIMESTEPS, EMBEDDINGS, ENCODERS = ("step", "window"), ("norm", "tanh"), ("light", "nature")
REWARDS = ("auto", "raw", "clipped", "mixed")


@dataclass(frozen=True)
class ModelConfig:
    """What all backbones share."""

    # Width of a token.
    d_model: int = 64
    # Layers of the residual stack.
    n_layers: int = 2
    # Dropout on embeddings, attention and residual branches.
    dropout: float = 0.1
    # K, steps of a window; a step is three tokens.
    context: int = 10
    # step (each token gets its step's timestep) or window (the window's first timestep, and a place in the window).
    timestep: str = "step"
    # norm (a layer norm over each token) or tanh (of what is embedded).
    embedding: str = "norm"
    # Of pixels: nature (as in the papers) or light (a sixth of the multiplications).
    encoder: str = "light"

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "context"):
            require(getattr(self, name) >= 1, f"model.{name}={getattr(self, name)}: give at least 1")
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout}: give a number in [0, 1)")
        for name, known in (("timestep", TIMESTEPS), ("embedding", EMBEDDINGS), ("encoder", ENCODERS)):
            value = getattr(self, name)
            require(value in known, f"model.{name}={value}: give one of {', '.join(known)}")


@dataclass(frozen=True)
class DataConfig:
    """Where the trajectories come from."""

    # embedded, d4rl, minari, dqn-replay, local; there is no fallback from one to another.
    source: str = "embedded"
    # Environment steps of an embedded data set, at least.
    steps: int = 50_000
    # Scale of returns-to-go: raw; clipped (each reward to [-1, 1]); mixed (clipped in training, raw rewards come off
    # the target when acting, as the originals do); auto is the suite's own.
    rewards: str = "auto"

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"data.steps={self.steps}: give at least 1")
        require(self.rewards in REWARDS, f"data.rewards={self.rewards}: give one of {', '.join(REWARDS)}")


@dataclass(frozen=True)
class TrainConfig:
    """One training loop for all."""

    # Optimiser updates.
    steps: int = 600
    # Windows in a batch.
    batch_size: int = 64
    # Peak learning rate.
    lr: float = 1e-3
    # AdamW's decay rates of the moments.
    betas: tuple[float, float] = (0.9, 0.95)
    # Decoupled weight decay; not on biases, norms, embeddings, A and D.
    weight_decay: float = 1e-4
    # Updates of linear warm-up.
    warmup: int = 50
    # After the warm-up: constant, or cosine (down to a tenth).
    schedule: str = "constant"
    # Largest norm of the gradient; 0 for no clipping.
    clip: float = 1.0
    # Autocast to bfloat16.
    bf16: bool = False
    # torch.compile. On a CPU it was slower, after 10 to 40 seconds of compiling (docs/explanation/speed.md).
    compile: bool = False
    # Evaluations, evenly spaced, the last one at the end; the best one is kept apart.
    evaluations: int = 1
    # Updates between two lines of progress.
    log_every: int = 25
    # Updates between two checkpoints.
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluations", "log_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"train.{name}={getattr(self, name)}: give at least 1")
        require(self.lr > 0, f"train.lr={self.lr}: give a positive number")
        require(self.warmup >= 0 and self.clip >= 0, "train.warmup and train.clip: give 0 or more")
        require(self.weight_decay >= 0, f"train.weight_decay={self.weight_decay}: give 0 or more")
        require(
            len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            f"train.betas={list(self.betas)}: give two numbers in [0, 1)",
        )
        require(
            self.schedule in ("constant", "cosine"), f"train.schedule={self.schedule}: give one of constant, cosine"
        )


@dataclass(frozen=True)
class EvalConfig:
    """How a checkpoint is scored."""

    # Episodes for each target return.
    episodes: int = 10
    # window (recompute the last K steps) or recurrent (carry state).
    acting: str = "window"
    # Seed of the evaluation's environments.
    seed: int = 1000
    # Longest episode; 0 for the task's own limit.
    max_steps: int = 0
    # Target returns instead of the task's declared ones, on the scale of data.rewards; the first one is the headline.
    targets: tuple[float, ...] = ()
    # Numbered actions are drawn from softmax(logits / temperature); 0 takes the likeliest one.
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.temperature < math.inf, f"eval.temperature={self.temperature}: give 0 or more")
        require(self.episodes >= 1, f"eval.episodes={self.episodes}: give at least 1")
        require(self.max_steps >= 0, f"eval.max_steps={self.max_steps}: give 0 or more")
        require(self.seed >= 0, f"eval.seed={self.seed}: give 0 or more")
        require(self.acting in ("window", "recurrent"), f"eval.acting={self.acting}: give one of window, recurrent")
        require(len(set(self.targets)) == len(self.targets), "eval.targets: the same target twice")


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, backbone x task x seed: everything that its result depends on.

    ``options`` are the backbone's own, as resolved. ``atari`` is the protocol of a task with pixels. ``variant`` names
    what was changed from the preset.
    """

    backbone: str
    task: Task
    preset: str = "quick"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    atari: AtariProtocol | None = None
    variant: str = ""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, f"seed {self.seed}: give a whole number from 0 to 2**32 - 1")
        require(
            self.model.timestep == "step" or self.eval.acting == "window",
            f"eval.acting={self.eval.acting} needs model.timestep=step: with {self.model.timestep} every token changes "
            "when the window moves on, and no state can be carried",
        )

    @property
    def targets(self) -> tuple[float, ...]:
        """Target returns, the first one is the headline; empty where they follow from the data."""
        return self.eval.targets or self.task.targets

    @property
    def max_steps(self) -> int:
        """Longest evaluated episode."""
        return self.kind.max_steps(self.environment, self.task.max_steps, self.eval.max_steps)

    @property
    def kind(self) -> EnvironmentKind:
        """The kind of its environment."""
        return self.task.kind

    @property
    def environment(self) -> EnvironmentSpec:
        """The environment that it is evaluated in."""
        return EnvironmentSpec(self.task.env_id, self.task.env_kwargs, self.atari)

    def resolved(self) -> dict[str, Any]:
        """The whole cell as plain JSON values."""
        content: dict[str, Any] = jsonable(dataclasses.asdict(self))
        return content

    @property
    def key(self) -> str:
        """Stable name of the cell: its record's file name. Logging and checkpoint intervals do not change a result."""
        digest = config_digest(self.resolved())
        return cell_key(self.backbone, self.task.name, self.data.source, self.preset, self.seed, digest)

    def record_path(self, results: Path) -> Path:
        """Where its record is, or will be."""
        return results / "records" / f"{self.key}.json"

    def checkpoint_folder(self, results: Path) -> Path:
        """Where its checkpoints are, or will be."""
        return results / "checkpoints" / self.key


def jsonable(value: Any, where: str = "") -> Any:
    """Tuples to lists and mappings to dicts, so that a value equals itself after a trip through JSON.

    ``where`` names the value in the error, ``UserError``, for what JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {str(k): jsonable(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v, where) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where or 'a setting'}={value}: give a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(f"{value!r} is not a number, text, list or mapping; options of a backbone must be")
