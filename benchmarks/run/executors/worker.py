"""A process that computes one cell, the same for every executor: its order, signals, threads and backbones."""

import signal
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from backbench import reading
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Emit, Job
from backbench.claims import Claim
from backbench.errors import UserError, require
from backbench.registry import load

if TYPE_CHECKING:
    from backbench.backbones.contract import Causal

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_requests() -> threading.Event:
    """From now on SIGINT and SIGTERM only set this event. Main thread only."""
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.set()

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
    return asked


def work(cell: Cell, job: Job, claim: Claim, send: Emit, asked: threading.Event) -> None:
    """Run one cell, on which there is a claim, until ``asked``. ``send`` gets its events; see ``attempt``."""
    from backbench.benchmarks.run.executors.attempt import attempt

    join(job)
    attempt(cell, job, claim, send, asked.is_set)


def join(job: Job) -> None:
    """Make this process one of the run's: its backbones, and one thread."""
    import torch

    from backbench.backbones import BACKBONES
    from backbench.backbones.kernels import SlowKernels

    for name, target in job.backbones.items():
        BACKBONES.add(name, cast("type[Causal]", load(target, f"backbone '{name}'", "registered")))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SlowKernels)  # whoever started the run has warned once for all cells


def read_order(path: Path, results: Path, device: str) -> tuple[Cell, Job, str]:
    """The cell in a JSON file, as ``order`` or a record's ``provenance.config`` has it, and the digest of its data if
    whoever ordered it has the data. UserError names the file."""
    content = reading.read_json(path, reading.MB)
    require(isinstance(content, dict), f"{path} has no settings of a cell; give those in a record's provenance.config")
    told: dict[str, Any] = content if "cell" in content else {"cell": content}
    command, backbones = told.get("command", ["run_cell"]), told.get("backbones", {})
    words = isinstance(command, list) and all(isinstance(one, str) for one in command)
    require(words, f"{path}: command is no list of words; give those of the command that started the run")
    named = isinstance(backbones, dict) and all(isinstance(one, str) and ":" in one for one in backbones.values())
    require(named, f"{path}: backbones is no mapping of names to module:Class")
    digest = told.get("data", "")
    require(isinstance(digest, str), f"{path}: data is no digest")
    odd = told.keys() - {"cell", "command", "backbones", "data"}
    require(not odd, f"{path}: unknown {', '.join(sorted(odd))}; it holds cell, command, backbones and data")
    try:
        cell = cell_of(told["cell"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return cell, Job(results, device, tuple(command), backbones), digest


def check_same_data(data_id: str, digest: str) -> None:
    """UserError if this node's data set has another digest than the one that was ordered."""
    from backbench.benchmarks.data import store

    here = store.sidecar(data_id).get("digest", "") if digest else ""
    require(
        here == digest,
        f"data set {data_id!r} in {store.root()} has the sha256 {here[:12] or 'of none'}, and the run was started with "
        f"{digest[:12]}; remove it there, and it is brought anew",
    )
