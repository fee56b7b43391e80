"""How many cells run side by side, and on which GPUs. Torch's GPUs are faked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from backbench.benchmarks.api.engines import Where, engine_for, visible_gpus
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import machine
from backbench.benchmarks.run.executors.local import LocalExecutor
from backbench.errors import UserError

Build = Callable[..., Cell]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("jobs", "per_device", "device", "expected", "said"),
    [
        (0, 0, "auto", (2, ("0", "1")), "2 at a time on 2 GPUs"),
        (0, 3, "auto", (6, ("0", "1")), "6 at a time on 2 GPUs"),
        (5, 0, "cuda", (5, ("0", "1")), "5 at a time on 2 GPUs"),
        (5, 2, "cuda", (4, ("0", "1")), "4 at a time on 2 GPUs"),
        (1, 2, "cuda", (1, ("0", "1")), "1 at a time on cuda"),
        (0, 0, "cuda:1", (1, ()), "1 at a time on cuda"),
        (0, 3, "cuda:1", (3, ()), "3 at a time on cuda"),
        (3, 0, "cpu", (3, ()), "3 at a time on cpu"),
        (40, 0, "cpu", (8, ()), "8 at a time on cpu"),  # as many as there are cells
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_jobs_and_cells_per_device_are_limits(
    tiny_cell: Build, jobs: int, per_device: int, device: str, expected: tuple[int, tuple[str, ...]], said: str
) -> None:
    cells = [tiny_cell(seed=seed) for seed in range(8)]
    engine = engine_for(cells, Where(jobs=jobs, device=device, cells_per_device=per_device), print)
    assert isinstance(engine.executor, LocalExecutor)
    assert ((engine.executor.jobs, engine.executor.gpus), engine.side) == (expected, said)
    assert engine.device == ("cuda" if device == "auto" else device)


def test_without_a_gpu_there_is_a_cell_for_each_core(tiny_cell: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 3)
    cells = [tiny_cell(seed=seed) for seed in range(8)]
    assert engine_for(cells, Where(device="cpu"), print).side == "3 at a time on cpu"
    with pytest.raises(UserError, match="--cells-per-device=2 is for GPUs, and the device is cpu"):
        engine_for(cells, Where(device="cpu", cells_per_device=2), print)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_keep_the_names_that_the_environment_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5, 7")
    assert visible_gpus() == ("GPU-5", "7")
