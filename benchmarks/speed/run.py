"""One ``bench speed``: examine the models, measure, write the report and print it."""

import gc
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from backbench import terminal
from backbench.benchmarks.plan.settings import jsonable
from backbench.benchmarks.run import provenance
from backbench.benchmarks.run.cell import choose_device
from backbench.benchmarks.speed import picture
from backbench.benchmarks.speed import report as report_file
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model, backbone_model
from backbench.benchmarks.speed.parts import acting, kernels, training
from backbench.benchmarks.speed.peers import peers
from backbench.benchmarks.speed.report import Fields, Report
from backbench.benchmarks.speed.tables import show
from backbench.errors import UserError
from backbench.leaderboard.record.fields import without_paths

# Each part measures the models that passed in about so many seconds. It returns fields of the report.
MEASURES: dict[str, Callable[[Mapping[str, Model], Examiner, float], Fields]] = {
    "training": training.measure,
    "lengths": training.measure_lengths,
    "latency": acting.measure_latency,
    "acting": acting.measure_acting,
    "memory": training.measure_memory,
    "kernels": kernels.measure,
}


def speed(config: SpeedConfig) -> int:
    """Measure, write speed.json and speed.png into ``config.out`` and print the tables; the exit status.

    1 when a model or an implementation was refused. UserError: a wrong setting. OSError: results cannot be written.
    """
    choose_device(config.device)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=config.out).close()
    except OSError as error:
        raise UserError(f"cannot write to {config.out}: {error.strerror}; choose another folder with --out") from error
    began = time.monotonic()
    notes = terminal.console(error=True)

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        terminal.say(notes, f"[{minutes}:{seconds:02d}] {text}", "dim")

    try:
        report = measure(config, say)
    except torch.OutOfMemoryError as error:
        raise UserError("out of memory; give a smaller --batch-size, or shorter --lengths") from error
    written = [report_file.write(report, config.out)]
    try:
        drawn = picture.draw(report, config.out)
        written += [drawn] if drawn else []
    except ImportError as error:
        say(f"no picture: {error}; install it with: pip install matplotlib")
    show(report, config.markdown)
    say(f"written: {', '.join(map(str, written))}")
    return 1 if report.refused else 0


def measure(config: SpeedConfig, say: Callable[[str], None] = lambda _: None) -> Report:
    """Examine every model, then measure those that passed. UserError: no such device, backbone or option."""
    began, started = time.perf_counter(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    device = choose_device(config.device)
    config = replace(config, device=str(device))
    with ExitStack() as after:
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        after.callback(gc.unfreeze)
        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(device.type == "cpu")  # as in ``bench run``
        others, missing = peers(config) if config.peers else ([], [])
        models = [*(backbone_model(name, config) for name in config.backbones), *others]
        examiner = Examiner(config, say)
        say("checking every model against its reference")
        entries = [examiner.entry(model) for model in models]
        gc.freeze()  # the collector need not search libraries before each run
        passed = {model.name: model for model, entry in zip(models, entries, strict=True) if entry.refused is None}
        measured: dict[str, Any] = {}  # the report's fields
        for part, measure_part in MEASURES.items():
            if part in config.parts:
                say(part)
                measured |= measure_part(passed, examiner, config.seconds(part))
    commit, dirty = provenance.git_state()
    return Report(
        started=started,
        hardware=provenance.hardware(torch.cuda.get_device_name(device) if device.type == "cuda" else None),
        device=device.type,
        threads=config.threads,
        dtype="bfloat16" if config.bf16 else "float32",
        python=platform.python_version(),
        platform=f"{sys.platform}, {platform.machine()}",
        packages=provenance.packages(),
        git_commit=commit,
        git_dirty=dirty,
        config=without_paths(jsonable(config.recorded())),
        wall_seconds=time.perf_counter() - began,
        models=tuple(entries),
        missing=tuple(missing),
        **measured,
    )
