"""Where the cells of a request run: this process, local processes, a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backbench.errors import UserError, require

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.executors import Executor


# Executors, and the flags that are theirs.
OPTIONS = {"local": (), "slurm": ("partition", "time", "mem", "gpus"), "ray": ("address", "mem", "gpus")}


@dataclass(frozen=True)
class Where:
    """Where a request runs: cells at a time (0: one per core or GPU), device, folder of results, ``--track``."""

    jobs: int = 0
    device: str = "auto"
    out: Path = Path("results")
    track: str = ""
    cells_per_device: int = 0  # most on a GPU; 0: as many as ``jobs`` puts there
    executor: str = "local"  # one of OPTIONS, or inline: in this process, one cell after another
    options: Mapping[str, str] = field(default_factory=dict)  # of the executor; for slurm any of sbatch's


@dataclass(frozen=True)
class Engine:
    """An executor, the device that its cells are told, and what a user hears of it."""

    executor: Executor
    device: str
    side: str  # how many cells at a time, and where


def engine_for(left: Sequence[Cell], where: Where, say: Callable[[str], None]) -> Engine:
    """The engine for the cells that are left. ``say`` gets what a cluster has to tell.

    UserError: an unknown device, or one that a cell cannot use; a backbone that cannot be sent to other processes;
    Slurm or Ray is absent or would refuse the cells.
    """
    from backbench.benchmarks.run.cell import choose_device
    from backbench.benchmarks.run.executors.inline import InlineExecutor
    from backbench.benchmarks.run.executors.local import LocalExecutor

    bound, away = _bound(left), where.executor in ("slurm", "ray")
    if bound and (where.jobs > 1 or away):
        raise UserError(
            f"{f'--executor {where.executor}' if away else f'jobs={where.jobs}'}: backbone '{bound}' is defined "
            "in the main script or in a function, and no other process can import it; move it into a module of its "
            "own, or leave that out"
        )
    if away:
        return _cluster(where, say)
    device = choose_device(where.device, left)
    require(
        device.type == "cuda" or not where.cells_per_device,
        f"--cells-per-device={where.cells_per_device} is for GPUs, and the device is {device}; give --jobs",
    )
    if bound or where.executor == "inline":
        return Engine(InlineExecutor(), str(device), f"1 at a time on {device.type}")
    wide = max((cell.train.processes for cell in left), default=1)  # processes of one cell, which see all GPUs
    gpus = visible_gpus() if str(device) == "cuda" and wide == 1 else ()
    jobs = min(_side_by_side(where, device.type, len(gpus), wide), len(left))
    used = f"{min(jobs, len(gpus))} GPUs" if len(gpus) > 1 and jobs > 1 else device.type
    return Engine(LocalExecutor(jobs, gpus), str(device), f"{jobs} at a time on {used}")


def check_options(executor: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options that are given. UserError: no such executor, or an option that it does not have."""
    require(executor in OPTIONS, f"--executor {executor}: give {', '.join(OPTIONS)}")
    given = {name: text for name, text in options.items() if text}
    odd = [name for name in given if name not in OPTIONS[executor]]
    having = [name for name, known in OPTIONS.items() if odd and odd[0] in known]
    known = ", ".join(OPTIONS[executor]) or "none"
    rest = f"give --executor {' or '.join(having)}" if having else f"its options: {known}"
    said = f"--executor {executor} has no such option; {rest}"
    require(not odd, f"{'/'.join(f'--{name}' for name in odd)}: {said}")
    return given


def _cluster(where: Where, say: Callable[[str], None]) -> Engine:
    """Devices are the nodes' matter; this machine may have none."""
    from backbench.benchmarks.run import machine
    from backbench.benchmarks.run.executors import ray_cluster, sbatch
    from backbench.benchmarks.run.executors.on_ray import RayExecutor
    from backbench.benchmarks.run.executors.slurm import SlurmExecutor

    options = where.options
    said = f"--cells-per-device is for --executor local; --executor {where.executor} has a cell in a job"
    require(not where.cells_per_device, said)
    name, make = ("Slurm", SlurmExecutor) if where.executor == "slurm" else ("Ray", RayExecutor)
    if where.executor == "slurm":
        sbatch.check(options)
    else:
        ray_cluster.connect(options.get("address", ""), where.jobs or machine.cores(), options)
    device = "cuda" if where.device == "auto" and options.get("gpus") else where.device
    side = f"at most {where.jobs} at a time on {name}" if where.jobs else f"on {name}"
    return Engine(make(where.jobs, options, say), device, side)


def _bound(left: Sequence[Cell]) -> str:
    """The first backbone that no other process can import; empty if there is none."""
    from backbench.backbones import BACKBONES

    bound = {name for cell in left for name in cell.backbone.split("+") if BACKBONES.only_here(name)}
    return min(bound, default="")


def _side_by_side(where: Where, device: str, gpus: int, wide: int) -> int:
    from backbench.benchmarks.run import machine

    if device == "cpu":
        return where.jobs or max(1, machine.cores() // wide)
    most = where.cells_per_device * max(1, gpus)
    return min(where.jobs, most) if where.jobs and most else where.jobs or most or max(1, gpus)


def visible_gpus() -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that torch sees."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count] if named else map(str, range(count)))
