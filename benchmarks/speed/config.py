"""Settings of ``bench speed``. Every field is also an option of the command: name, type, default and help are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.errors import require, suggest

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import ModelConfig, TrainConfig

# Each part of the measurement and its share of the time budget. Memory needs no timed runs.
PARTS = {"training": 0.15, "lengths": 0.25, "latency": 0.2, "acting": 0.2, "memory": 0.0, "kernels": 0.2}
ENVIRONMENT, OBSERVATION, ACTION, EPISODE = "HalfCheetah-v5", 17, 6, 1000
TARGET, RETURN_SCALE = 6000.0, 1000.0
NOT_RECORDED = ("device", "out", "markdown", "source", "d_model", "n_layers", "context")  # the last three: in ``model``


def option(default: Any, help: str, name: str = "", shown: str | None = None) -> Any:
    """A field that is an option of the command. ``name`` and ``shown``: its name and default, where they differ."""
    value = {"default_factory" if default is dict else "default": default}
    return field(**value, metadata={"help": help, "name": name, "shown": shown})


@dataclass(frozen=True)
class SpeedConfig:
    """Settings of one measurement: plain values, which a fresh process gets as JSON."""

    backbones: tuple[str, ...] = option(
        ("transformer", "mamba", "gloma"), "Names, comma-separated, module:Class, file.py:Class; or all.", "--backbone"
    )
    peers: bool = option(False, "Other packages' implementations too.")
    lengths: tuple[int, ...] = option((20, 64, 256, 1024), "Contexts in tokens, comma-separated.")
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    threads: int = option(1, "Threads of an operation on the CPU.")
    out: Path = option(Path("speed"), "Folder of speed.json and speed.png.")  # noqa: RUF009
    repeats: int = option(7, "Timed runs of everything, at most.")
    budget: float = option(0, "Seconds of timed runs, about; 0: 180, or 360 with peers.")
    parts: tuple[str, ...] = option(tuple(PARTS), f"Some of {','.join(PARTS)}.", shown="")
    d_model: int = option(128, "Width of a token.")
    n_layers: int = option(3, "Layers.")
    context: int = option(20, "K, steps of a window, where the length is not varied.")
    batch_size: int = option(64, "Windows in a batch at that length.")
    bf16: bool = option(False, "Train under autocast to bfloat16.")
    markdown: bool = option(False, "Print the tables as Markdown.")
    source: Path | None = option(None, "Print the tables of this speed.json instead of measuring.", "--from")  # noqa: RUF009
    options: Mapping[str, Any] = option(dict, "Options of the backbones, backbone.key=value.")

    def __post_init__(self) -> None:
        require(bool(self.backbones), "--backbone: name at least one; bench list backbones")
        require(len(set(self.backbones)) == len(self.backbones), "--backbone: the same backbone twice")
        require(bool(self.lengths), "--lengths: give at least one length, in tokens, such as 20,64,256,1024")
        for name in ("threads", "repeats", "batch_size", "lengths"):
            value = getattr(self, name)
            least = min(value) if isinstance(value, tuple) else value
            require(least >= 1, f"--{name.replace('_', '-')} {least}: give at least 1")
        require(self.budget >= 0, f"--budget {self.budget:g}: give a number of seconds")
        require(bool(self.parts), f"--parts: give some of {', '.join(PARTS)}")
        for part in self.parts:
            require(part in PARTS, f"unknown part '{part}'{suggest(part, PARTS)}")
        _ = self.model  # checks its own values

    @property
    def model(self) -> ModelConfig:
        """Width, depth and context of every model; the dropout of Decision Transformer on Gym."""
        from backbench.benchmarks.plan.settings import ModelConfig  # numpy: too heavy for --help

        return ModelConfig(d_model=self.d_model, n_layers=self.n_layers, dropout=0.1, context=self.context)

    @property
    def train(self) -> TrainConfig:
        """The training loop's settings."""
        from backbench.benchmarks.plan.settings import TrainConfig

        return TrainConfig(batch_size=self.batch_size, bf16=self.bf16)

    def recorded(self) -> dict[str, Any]:
        """The settings that the report holds: those that can change a number."""
        kept = {name: value for name, value in asdict(self).items() if name not in NOT_RECORDED}
        return kept | {"model": asdict(self.model)}

    def seconds(self, part: str) -> float:
        """Time for the timed runs of ``part``. Parts that are not measured leave their share to the others."""
        total = self.budget or (360.0 if self.peers else 180.0)
        return total * PARTS[part] / max(1e-9, sum(PARTS[name] for name in self.parts))
