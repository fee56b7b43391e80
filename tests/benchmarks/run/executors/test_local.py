"""The GPU that each local process sees. Processes are simulated: what matters is the environment that they start in."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Event, Job
from backbench.benchmarks.run.executors.local import LocalExecutor
from backbench.claims import Claim

Build = Callable[..., Cell]


class Simulated:
    """In place of multiprocessing: a process ends at once, and leaves its message in the pipe."""

    Pipe = staticmethod(multiprocessing.Pipe)
    exitcode = 0
    seen: list[str | None]

    def __init__(self) -> None:
        self.seen = []

    def Process(self, target: object, args: tuple[Cell, Job, Claim, Connection]) -> Simulated:  # its name
        self.cell, self.pipe = args[0], args[3]
        return self

    def start(self) -> None:
        self.seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
        self.pipe.send(Event(self.cell, "error", message="simulated"))

    def join(self) -> None:
        """It has ended."""


@pytest.mark.parametrize(
    ("jobs", "gpus", "expected"),
    [
        (4, ("7", "GPU-5"), ["7", "GPU-5", "7", "GPU-5"]),
        (3, ("0", "1", "2"), ["0", "1", "2", "0"]),  # the first is free again
        (1, ("0", "1"), ["0", "0", "0", "0"]),
        (4, (), ["7,GPU-5"] * 4),  # without names each sees all
    ],
)
def test_each_process_sees_the_gpu_with_the_fewest_cells(
    tiny_cell: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    gpus: Sequence[str],
    expected: list[str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,GPU-5")
    executor, simulated = LocalExecutor(jobs, gpus), Simulated()
    monkeypatch.setattr(executor, "_context", simulated)
    executor.run([tiny_cell(seed=seed) for seed in range(4)], Job(tmp_path, "cuda"), lambda event: None)
    assert simulated.seen == expected
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7,GPU-5"
