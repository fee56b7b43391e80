"""Peak memory of training steps. Each model gets a fresh process, which has held nothing before."""

from __future__ import annotations

import gc
import signal
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch

from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, backbone_model, make_policy, windows
from backbench.benchmarks.speed.parts.training import training_step
from backbench.benchmarks.speed.peers import PEERS
from backbench.benchmarks.speed.report import Fields, MemoryEntry
from backbench.errors import UserError, one_line

STEPS = 3  # the optimiser's moments exist from the first one on


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Peak memory of every model that can be measured."""
    found = []
    for name in models:
        try:
            found.append(peak_memory(name, examiner.config))
        except (RuntimeError, MemoryError, UserError) as error:  # also a process that was killed
            examiner.say(f"memory of {name} could not be measured: {one_line(error)}")
    return {"memory": found}


def peak_memory(name: str, config: SpeedConfig) -> MemoryEntry:
    """Measure the backbone or peer called ``name`` in a fresh process. Raises what the measurement raises."""
    # Ctrl-C is the parent's to handle.
    with ProcessPoolExecutor(1, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return pool.submit(_measure, name, config).result()


def resident(key: str) -> float:
    """Memory of this process in 10^6 bytes: VmRSS, the resident memory, or VmHWM, its peak.

    Not ru_maxrss, which a process inherits from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {key}")


def _measure(name: str, config: SpeedConfig) -> MemoryEntry:
    torch.set_num_threads(config.threads)
    model = PEERS[name].model(name, config) if name in PEERS else backbone_model(name, config)
    batch, context, cuda = config.batch_size, config.context, torch.device(config.device).type == "cuda"

    def train(batch: int, steps: int, context: int) -> None:
        step = training_step(make_policy(model, config, context), windows(batch, context, config.device), config)
        for _ in range(steps):
            step()

    train(1, 1, 1)  # loads libraries and makes their workspaces
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats(config.device)
    else:
        with suppress(OSError):  # where VmHWM cannot be reset, the imports' peak is a lower limit
            Path("/proc/self/clear_refs").write_text("5")
    before = torch.cuda.memory_allocated(config.device) / 1e6 if cuda else resident("VmRSS")
    train(batch, STEPS, context)
    after = torch.cuda.max_memory_allocated(config.device) / 1e6 if cuda else resident("VmHWM")
    return MemoryEntry(model=name, length=TOKENS_PER_STEP * context, batch=batch, megabytes=max(0.0, after - before))
