"""Settings of the check, and its budget of time."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Say = Callable[[dict[str, Any]], None]  # gets a stage's findings
SUITE, PRESET = "d4rl", "paper"
SEEDS = 3  # of the paper's table
# Of a rehearsal.
SMALL = ("model.d_model=32", "model.n_layers=1", "model.context=5", "train.batch_size=8", "eval.episodes=5")
GOAL = 1.0  # GPU-hours for it


@dataclass(frozen=True)
class Settings:
    """Plain values, which each stage gets as JSON."""

    device: str = "cuda"
    out: str = "gpu-report"
    seconds: float = 260.0  # of all stages together; with set-up and report, twice that fits into ten minutes
    backbones: tuple[str, ...] = ("gloma", "transformer", "mamba", "mlp", "identity")  # the first one's packing is full
    overrides: tuple[str, ...] = ()  # of the preset
    cell_seconds: float = 20.0  # of training, for each backbone
    counts: tuple[int, ...] = (1, 2, 4, 8)  # cells at once
    phase_seconds: float = 1.5  # of training, for each number of cells at once
    updates: int = 30  # whose losses are compared, with and without CUDA graphs
    checkpoint_every: int = 1000  # updates; the setting changes no result

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU. Otherwise this is a rehearsal."""
        return self.device.startswith("cuda")

    def rehearsal(self) -> Settings:
        """The same stages with small cells, as a CPU can do them in this time."""
        return dataclasses.replace(self, overrides=SMALL, counts=(1, 2), updates=5)

    def text(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, text: str) -> Settings:
        """From ``text()``."""
        values: dict[str, Any] = json.loads(text)
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


@dataclass
class Budget:
    """Seconds that are left of ``total``."""

    total: float
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds to the end, never negative."""
        return max(0.0, self.total - self.spent)
