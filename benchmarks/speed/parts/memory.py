"""Peak memory of training steps, each subject in a process of its own, which has held nothing before."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from backbench.benchmarks.plan.settings import ModelConfig
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.equality import make
from backbench.benchmarks.speed.models import Subject, subject, windows
from backbench.benchmarks.speed.parts.training import training_step
from backbench.benchmarks.speed.peers import PEERS
from backbench.benchmarks.speed.report import MemoryEntry
from backbench.errors import UserError

STEPS = 3  # the optimiser's moments are there from the first one on


def find(name: str, config: SpeedConfig) -> Subject:
    """The backbone or peer called ``name``."""
    return PEERS[name].make(config) if name in PEERS else subject(name, config)


def peak_memory(name: str, config: SpeedConfig, device: torch.device) -> MemoryEntry:
    """Measured in a fresh process. RuntimeError, one line, when that process fails."""
    asked = json.dumps({"name": name, "device": str(device), "config": dataclasses.asdict(config)})
    environment = os.environ | {"OMP_NUM_THREADS": str(config.threads)}
    command = [sys.executable, "-P", "-m", __name__]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"memory of {name} could not be measured: {said[-1]}")
    return MemoryEntry.model_validate_json(done.stdout.splitlines()[-1])


def _resident(key: str) -> float:
    """VmRSS, the resident memory, or VmHWM, its peak, in 10^6 bytes.

    Not ru_maxrss, which a process takes over from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status has no {key}")


def _forget_peak() -> None:
    """Let VmHWM begin anew, where the system allows it; otherwise the peak of the imports is a lower limit."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _measure(name: str, config: SpeedConfig, device: torch.device) -> MemoryEntry:
    context, length = config.model.context, 3 * config.model.context

    def train(batch: int, steps: int, context: int) -> None:
        policy = make(find(name, config), config, context, device)
        step = training_step(policy, windows(batch, context, device), config, device)
        for _ in range(steps):
            step()

    train(1, 1, 1)  # libraries are loaded, and their workspaces made
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 1e6
        train(config.batch_size, STEPS, context)
        after = torch.cuda.max_memory_allocated(device) / 1e6
    else:
        _forget_peak()
        before = _resident("VmRSS")
        train(config.batch_size, STEPS, context)
        after = _resident("VmHWM")
    return MemoryEntry(subject=name, length=length, batch=config.batch_size, megabytes=max(0.0, after - before))


def main() -> int:
    """What the fresh process does: a request on standard input, the answer on standard output."""
    asked = json.loads(sys.stdin.read())
    config: dict[str, Any] = asked["config"]
    config = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
    settings = SpeedConfig(**config | {"model": ModelConfig(**config["model"])})
    torch.set_num_threads(settings.threads)
    try:
        print(_measure(asked["name"], settings, torch.device(asked["device"])).model_dump_json())
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    except (RuntimeError, MemoryError, UserError) as error:
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
