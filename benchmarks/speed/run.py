"""One ``bench speed``: examine, measure, write, print."""

from __future__ import annotations

import dataclasses
import gc
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console

from backbench.agents.agent import Agent
from backbench.agents.build import count_parameters
from backbench.benchmarks.plan.settings import jsonable
from backbench.benchmarks.run import provenance
from backbench.benchmarks.run.cell import choose_device
from backbench.benchmarks.speed import picture
from backbench.benchmarks.speed import report as report_file
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.equality import Examiner, Unequal
from backbench.benchmarks.speed.models import Subject, subject
from backbench.benchmarks.speed.parts.acting import time_acting
from backbench.benchmarks.speed.parts.kernels import time_kernels, time_scan_lengths
from backbench.benchmarks.speed.parts.latency import time_latency
from backbench.benchmarks.speed.parts.memory import peak_memory
from backbench.benchmarks.speed.parts.training import time_lengths, time_training
from backbench.benchmarks.speed.peers import peers
from backbench.benchmarks.speed.report import Missing, Report, SubjectEntry
from backbench.benchmarks.speed.tables import show
from backbench.errors import UserError
from backbench.leaderboard.trust.privacy import without_paths

Say = Callable[[str], None]


def speed(config: SpeedConfig, device: str = "auto", out: Path = Path("speed"), markdown: bool = False) -> int:
    """Measure, write speed.json and speed.png into ``out`` and print the tables; the exit status.

    0, or 1 when an implementation was refused.

    Raises:
        UserError: the settings cannot be measured here, or ``out`` cannot be written to; nothing was measured.
        OSError: the results could not be written.
    """
    where = choose_device(device)
    _writable(out)
    began = time.monotonic()
    notes = Console(stderr=True, highlight=False)

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        notes.print(f"[{minutes}:{seconds:02d}] {text}", markup=False, style="dim")

    try:
        report = measure(config, where, say)
    except torch.OutOfMemoryError as error:
        raise UserError("out of memory; give a smaller --batch-size, or shorter --lengths") from error
    written = [report_file.write(report, out)]
    try:
        drawn = picture.draw(report, out)
        written += [drawn] if drawn else []
    except ImportError as error:
        say(f"no picture: {error}; install it with: pip install matplotlib")
    show(report, markdown)
    say(f"written: {', '.join(map(str, written))}")
    return 1 if report.refused else 0


def measure(config: SpeedConfig, device: torch.device, say: Say = lambda _: None) -> Report:
    """Examine every subject, then measure those that passed.

    Raises:
        UserError: a backbone or an option that does not exist.
    """
    began, started = time.perf_counter(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cuda = device.type == "cuda"
    with _settings(config.threads, device):
        found = [subject(name, config) for name in config.backbones]
        missing: list[Missing] = []
        if config.peers:
            others, missing = peers(config, device)
            found += others
        examiner = Examiner(config, device)
        say("checking that all are equal to their references")
        entries = [_examined(one, examiner) for one in found]
        gc.freeze()  # what is there by now, libraries above all, need not be looked through before each run
        passed = {one.name: one for one, entry in zip(found, entries, strict=True) if entry.refused is None}

        def seconds(part: str) -> float:
            say(part)
            return config.seconds(part)

        parts = config.parts
        training = (
            time_training(passed, config.model.context, config, device, seconds("training"))
            if "training" in parts
            else []
        )
        lengths = time_lengths(passed, config, device, seconds("lengths")) if "lengths" in parts else []
        latency, latency_lengths = (
            time_latency(passed, config, device, seconds("latency")) if "latency" in parts else ([], [])
        )
        acting = time_acting(passed, config, device, seconds("acting")) if "acting" in parts else []
        memory = []
        if "memory" in parts:
            say("memory")
            for name in passed:
                try:
                    memory.append(peak_memory(name, config, device))
                except RuntimeError as error:
                    say(str(error))
        kernels, scan_lengths = [], []
        if "kernels" in parts:
            share = seconds("kernels")
            kernels = time_kernels(examiner, 0.7 * share)
            scan_lengths = time_scan_lengths(examiner, 0.3 * share)
    commit, dirty = provenance.git_state()
    return Report(
        started=started,
        hardware=provenance.hardware(torch.cuda.get_device_name(device) if cuda else None),
        device=device.type,
        threads=config.threads,
        dtype="bfloat16" if config.bf16 else "float32",
        python=platform.python_version(),
        platform=f"{sys.platform}, {platform.machine()}",
        packages=provenance.packages(),
        git_commit=commit,
        git_dirty=dirty,
        config=without_paths(jsonable(dataclasses.asdict(config))),
        wall_seconds=time.perf_counter() - began,
        subjects=tuple(entries),
        missing=tuple(missing),
        training=tuple(training),
        lengths=tuple(lengths),
        latency=tuple(latency),
        latency_lengths=tuple(latency_lengths),
        memory=tuple(memory),
        acting=tuple(acting),
        kernels=tuple(kernels),
        scan_lengths=tuple(scan_lengths),
    )


def _examined(one: Subject, examiner: Examiner) -> SubjectEntry:
    """What a subject is, and whether it may be timed."""
    config = examiner.config
    kernels: dict[str, str] = {}
    checks: list[str] = []
    refused, parameters, flops = None, 0, None
    try:
        policy = one.make(config, config.model.context)
        parameters = count_parameters(policy)
        if isinstance(policy, Agent):
            flops = policy.backbone.flops(policy.backbone.spec.max_length)
        kernels, checks = examiner.subject(one)
    except Unequal as error:
        refused = str(error)
    except UserError:
        raise
    except Exception as error:  # whatever a backbone raises is why it is not timed
        refused = f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return SubjectEntry(
        name=one.name,
        peer_of=one.twin.name if one.twin else None,
        parameters=parameters,
        flops_per_token=flops,
        kernels=kernels,
        checks=tuple(checks),
        refused=None if refused is None else without_paths(refused),
    )


@contextmanager
def _settings(threads: int, device: torch.device) -> Iterator[None]:
    """The threads that were asked for, and on a CPU the deterministic algorithms that ``bench run`` asks for."""
    threads_before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error
