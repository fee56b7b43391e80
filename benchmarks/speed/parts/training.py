"""A complete training step, as in the training loop: its time, and its peak memory in a fresh process."""

import gc
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch

from backbench.agents.agent import Windows
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.run.train import make_optimizer, update
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, Policy, backbone_model, make_policy, steps, windows
from backbench.benchmarks.speed.peers import PEERS
from backbench.benchmarks.speed.report import Fields, MemoryEntry, TrainingEntry
from backbench.benchmarks.speed.timing import interleave, once
from backbench.errors import UserError, one_line

MEMORY_STEPS = 3  # the optimiser's moments exist from the first one on


def training_step(policy: Policy, batch: Windows, config: SpeedConfig) -> Callable[[], torch.Tensor]:
    """A function that trains ``policy`` on ``batch`` once a call, with the training loop's own update."""
    policy.train()
    optimizer = make_optimizer(policy, config.train, torch.device(config.device))
    return lambda: update(policy, policy.loss, batch, optimizer, config.train)


def batch_of(length: int, config: SpeedConfig) -> int:
    """Windows in a batch of ``length`` tokens each, so that every length has about as many tokens a batch."""
    return max(1, round(config.batch_size * config.context * TOKENS_PER_STEP / length))


def _time(models: Mapping[str, Model], context: int, config: SpeedConfig, seconds: float) -> list[TrainingEntry]:
    """Training steps on windows of ``context`` steps, all models in turn, in about ``seconds``."""
    length = TOKENS_PER_STEP * context
    batch = batch_of(length, config)
    data = windows(batch, context, config.device)
    calls = {
        name: once(training_step(make_policy(model, config, context), data, config), config.device)
        for name, model in models.items()
    }
    taken = interleave(calls, config.repeats, seconds)
    return [TrainingEntry(model=name, length=length, batch=batch, seconds=values) for name, values in taken.items()]


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Training steps at the configured context."""
    return {"training": _time(models, examiner.config.context, examiner.config, seconds)}


def measure_lengths(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Training steps over the configured lengths."""
    config = examiner.config
    share = seconds / len(config.lengths)
    return {"lengths": [one for n in config.lengths for one in _time(models, steps(n), config, share)]}


def measure_memory(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
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
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
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
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = torch.cuda.memory_allocated(config.device) / 1e6 if cuda else resident("VmRSS")
    train(batch, MEMORY_STEPS, context)
    after = torch.cuda.max_memory_allocated(config.device) / 1e6 if cuda else resident("VmHWM")
    return MemoryEntry(model=name, length=TOKENS_PER_STEP * context, batch=batch, megabytes=max(0.0, after - before))
