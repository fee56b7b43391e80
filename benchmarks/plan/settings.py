"""The typed settings of a run: frozen dataclasses, which Hydra fills at the edge (``compose``)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.kind import EnvironmentKind, EnvironmentSpec
from backbench.benchmarks.plan.suites import Task
from backbench.errors import UserError, require
from backbench.leaderboard.record.identity import cell_key, config_digest

# The choices, repeated here so that settings are read without torch.
TIMESTEPS, EMBEDDINGS, ENCODERS = ("step", "window", "none"), ("norm", "tanh"), ("light", "nature")
TOKENS, WINDOWS = ("rsa", "rs", "sa", "s"), ("uniform", "episode", "shifted")
INITS = ("gpt2", "torch", "mingpt")
LONGEST = 64  # times the data's length
REWARDS = ("auto", "raw", "clipped", "mixed")


@dataclass(frozen=True)
class ModelConfig:
    """What all backbones share."""

    d_model: int = 64  # width of a token
    n_layers: int = 2  # layers of the residual stack
    dropout: float = 0.1  # on embeddings, attention and residual branches
    context: int = 10  # K, steps of a window
    # What tells the time. `step`: each token gets its step's timestep. `window`: the window's first timestep, and an
    # index in the window. `none`: nothing.
    timestep: str = "step"
    tokens: str = "rsa"  # of a step, in order: return-to-go (`r`), state (`s`), action (`a`); `rsa`, `rs`, `sa` or `s`
    embedding: str = "norm"  # `norm`: a layer norm over each token. `tanh`: tanh of each embedding
    encoder: str = "light"  # of pixels: `nature` as in the papers, or `light` with a sixth of the multiplications
    # How the tokenizer and the head start. `gpt2`: N(0, 0.02), zero biases. `torch`: PyTorch's own start. `mingpt`:
    # PyTorch's own, but N(0, 0.02) for actions and head, and zeros for the tables of time and position. An encoder of
    # pixels always has PyTorch's.
    init: str = "gpt2"
    residual_scale: bool = True  # whether residual branches start times 1/sqrt(branches)

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "context"):
            _at_least(1, "model", self, name)
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout}: give a number in [0, 1)")
        known = {"timestep": TIMESTEPS, "tokens": TOKENS, "embedding": EMBEDDINGS, "encoder": ENCODERS, "init": INITS}
        for name, choices in known.items():
            _one_of(choices, "model", self, name)


@dataclass(frozen=True)
class DataConfig:
    """Where the trajectories come from."""

    # `embedded`, `d4rl`, `minari`, `dqn-replay` or `local`. `--data` sets it too. None replaces another.
    source: str = "embedded"
    steps: int = 50_000  # least number of steps of an embedded data set
    # Scale of returns-to-go. `raw`. `clipped`: each reward to [-1, 1]. `mixed`: clipped in training, raw rewards come
    # off the target when acting, as in the originals. `auto`: the suite's own.
    rewards: str = "auto"
    # Share of the steps that training uses: those of the episodes with the largest returns. With a backbone that does
    # not see the target, 0.1 is Decision Transformer's control %BC.
    top: float = 1.0
    # Unique episodes that training uses, 0 for all. The seed says which, and those of N are among those of 2N.
    episodes: int = 0
    # Episodes that training never sees, the same for every cell of a data set. The record has the loss on them.
    held_out: int = 0
    # `uniform`: a window starts at any step, sampled with replacement, and is padded past its episode's end. `episode`:
    # it starts with its episode, and episodes are sampled evenly. `shifted`: as `uniform`, but moved back to end with
    # its episode, in shuffled epochs.
    windows: str = "uniform"

    def __post_init__(self) -> None:
        _at_least(1, "data", self, "steps")
        _one_of(REWARDS, "data", self, "rewards")
        require(0 < self.top <= 1, f"data.top={self.top}: give a share above 0, up to 1")
        for name in ("episodes", "held_out"):
            _at_least(0, "data", self, name)
            both = getattr(self, name) > 0 and self.top < 1
            require(not both, f"data.{name}={getattr(self, name)}: data.top={self.top} chooses episodes too; give one")
        _one_of(WINDOWS, "data", self, "windows")


@dataclass(frozen=True)
class TrainConfig:
    """One training loop for all."""

    steps: int = 600  # optimiser updates
    batch_size: int = 64  # windows in a batch
    lr: float = 1e-3  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's decay rates of the moments
    weight_decay: float = 1e-4  # AdamW's decoupled weight decay
    decay: str = "matrices"  # what decays. `matrices`: no biases, norms, embeddings, A and D. `all`: every parameter
    warmup: int = 50  # updates of linear warm-up
    # After the warm-up: `constant`, `cosine` down to a tenth, or `cosine_floor` towards zero but never below a tenth.
    schedule: str = "constant"
    schedule_steps: int = 0  # update at which the cosine is at its lowest; 0 for `train.steps`
    clip: float = 1.0  # largest norm of the gradient; 0 for no clipping
    bf16: bool = False  # autocast to bfloat16
    compile: bool = False  # `torch.compile`; on a CPU it was slower (docs/explanation/speed.md)
    cuda_graphs: bool = False  # each update as one CUDA graph; refused on a CPU
    processes: int = 1  # processes that share each batch, on a GPU each if there are GPUs; its size is a multiple
    evaluations: int = 1  # evaluations, evenly spaced, the last at the end; see `eval.curve_episodes`
    log_every: int = 25  # updates between two lines of progress
    checkpoint_every: int = 100  # updates between two checkpoints

    def __post_init__(self) -> None:
        require(self.steps <= 10**9, f"train.steps={str(self.steps)[:40]}: give at most 1,000,000,000")
        for name in ("steps", "batch_size", "processes", "evaluations", "log_every", "checkpoint_every"):
            _at_least(1, "train", self, name)
        divided = f"train.processes={self.processes}: train.batch_size={self.batch_size} is no multiple of it"
        require(self.batch_size % self.processes == 0, f"{divided}; change one of the two")
        together = self.processes > 1 and self.cuda_graphs
        require(not together, "train.cuda_graphs=true captures one process's update; give train.processes=1")
        require(self.lr > 0, f"train.lr={self.lr}: give a positive number")
        for name in ("warmup", "clip", "weight_decay", "schedule_steps"):
            _at_least(0, "train", self, name)
        fits = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        require(fits, f"train.betas={list(self.betas)}: give two numbers in [0, 1)")
        _one_of(("constant", "cosine", "cosine_floor"), "train", self, "schedule")
        _one_of(("matrices", "all"), "train", self, "decay")
        unused = self.schedule == "constant" and self.schedule_steps > 0
        require(not unused, f"train.schedule_steps={self.schedule_steps}: a constant schedule has none; give 0")


@dataclass(frozen=True)
class EvalConfig:
    """How a checkpoint is scored."""

    episodes: int = 10  # episodes for each target return
    # Episodes of an evaluation during training, for the curve alone: other starts than the scored ones, and no best
    # checkpoint. 0: as many as `eval.episodes`, on their starts, and the best checkpoint is kept.
    curve_episodes: int = 0
    # The last checkpoint is also scored on episodes of so many times the data's length, in both protocols of acting,
    # with windows that are as many times longer. Needs a task that can be longer.
    lengths: tuple[int, ...] = ()
    acting: str = "window"  # `window` recomputes the last K steps; `recurrent` carries state
    # With `model.timestep=window`, the timestep of a window when acting: its `first`, or the `current` one.
    timestep: str = "first"
    seed: int = 1000  # of the evaluation's environments
    max_steps: int = 0  # longest episode; 0 for the task's own limit; a preset can only shorten it
    # Target returns instead of the task's, on the scale of `data.rewards`. The first is the headline.
    targets: tuple[float, ...] = ()
    temperature: float = 1.0  # discrete actions are sampled from softmax(logits / temperature); 0 takes the likeliest

    def __post_init__(self) -> None:
        require(0 <= self.temperature < math.inf, f"eval.temperature={self.temperature}: give 0 or more")
        for name, least in (("episodes", 1), ("curve_episodes", 0), ("max_steps", 0), ("seed", 0)):
            _at_least(least, "eval", self, name)
        _one_of(("window", "recurrent"), "eval", self, "acting")
        _one_of(("first", "current"), "eval", self, "timestep")
        require(len(set(self.targets)) == len(self.targets), "eval.targets: the same target twice")
        require(
            all(type(one) is int and 1 <= one <= LONGEST for one in self.lengths)
            and list(self.lengths) == sorted(set(self.lengths)),
            f"eval.lengths={list(self.lengths)}: give different whole numbers from 1 to {LONGEST}, in order",
        )


def _at_least(least: int, group: str, config: object, name: str) -> None:
    value = getattr(config, name)
    require(value >= least, f"{group}.{name}={value}: give {'0 or more' if least == 0 else f'at least {least}'}")


def _one_of(known: Sequence[str], group: str, config: object, name: str) -> None:
    value = getattr(config, name)
    require(value in known, f"{group}.{name}={value}: give one of {', '.join(known)}")


@dataclass(frozen=True)
class Cell:
    """One cell of the grid, backbone x task x seed: everything that its result depends on."""

    backbone: str
    task: Task
    preset: str = "quick"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # the backbone's own, as resolved
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    atari: AtariProtocol | None = None  # of a task with pixels
    variant: str = ""  # what was changed from the preset

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, f"seed {self.seed}: give a whole number from 0 to 2**32 - 1")
        require(
            self.model.timestep != "window" or self.eval.acting == "window",
            f"eval.acting={self.eval.acting} needs model.timestep=step or none: with window every token changes when "
            "the window moves on, and no state can be carried",
        )
        require(
            self.model.timestep == "window" or self.eval.timestep == "first",
            f"eval.timestep={self.eval.timestep} needs model.timestep=window: with {self.model.timestep} no token "
            "has the window's",
        )

        require(
            not self.eval.lengths or self.model.timestep == "none",
            f"eval.lengths={list(self.eval.lengths)} needs model.timestep=none: no step beyond the data's length has a "
            "trained timestep",
        )
        require(
            not self.eval.lengths or bool(self.task.longer),
            f"eval.lengths={list(self.eval.lengths)}: task {self.task.name} has no longer form; leave it out with "
            "--task, or remove the setting",
        )

    @property
    def targets(self) -> tuple[float, ...]:
        """Target returns. The first one is the headline. Empty if a rule takes them from the data."""
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
        """The environment of its evaluation."""
        return EnvironmentSpec(self.task.env_id, self.task.env_kwargs, self.atari, self.task.observe)

    def stretched(self, times: int) -> EnvironmentSpec:
        """The environment with episodes of ``times`` the data's length."""
        longer = {name: value * times for name, value in self.task.longer.items()}
        return replace(self.environment, kwargs={**self.task.env_kwargs, **longer})

    def resolved(self) -> dict[str, Any]:
        """The complete cell as plain JSON values."""
        return dict(jsonable(vars_of(self)))

    @cached_property
    def key(self) -> str:
        """Stable name of the cell and of its record's file. Logging and checkpoint intervals do not enter it."""
        digest = config_digest(self.resolved())
        return cell_key(self.backbone, self.task.name, self.data.source, self.preset, self.seed, digest)

    def record_path(self, results: Path) -> Path:
        """Path of its record."""
        return results / "records" / f"{self.key}.json"

    def checkpoint_folder(self, results: Path) -> Path:
        """Folder of its checkpoints."""
        return results / "checkpoints" / self.key


def vars_of(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass, and not what it has cached. ``dataclasses.asdict`` copies each value too."""
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def jsonable(value: Any, where: str = "") -> Any:
    """Tuples to lists, mappings and dataclasses to dicts, so that a value survives JSON. UserError, with ``where``, if
    it cannot."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars_of(value)
    if isinstance(value, Mapping):
        return {str(k): jsonable(v, f"{where}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v, where) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where or 'a setting'}={value}: give a finite number")
    if isinstance(value, float):
        return value
    raise UserError(f"{value!r} is not a number, text, list or mapping; options of a backbone must be")
