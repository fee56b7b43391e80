"""All stages in their order, then the report."""

from __future__ import annotations

import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from backbench import terminal
from backbench.benchmarks.run import provenance
from backbench.errors import UserError, one_line
from gpu_check import hours, report, stages
from gpu_check.settings import Budget, Settings
from gpu_check.stages import Result, Stage

# Stages of a group run side by side: those of the first one time nothing.
GROUPS = (
    (
        Stage("tests", "tests marked gpu", limit=60, least=10),
        Stage("equality", "losses with and without CUDA graphs", limit=60, least=10),
    ),
    (Stage("cells", "one cell of each backbone", limit=140, least=20),),
    (Stage("packing", "cells at once", limit=75, least=15),),
    (Stage("simulator", "steps of the simulator", limit=15, least=4),),
    (Stage("speed", "bench speed", limit=60, least=15),),
)


def check(settings: Settings) -> int:
    """Run the stages and write the report; the exit status, 1 if a stage is not done.

    UserError: no such device, or the report cannot be written.
    """
    name = device_name(settings.device)
    out = Path(settings.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
        (out / "log.txt").write_text("", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    if not settings.cuda:
        terminal.line(report.REHEARSAL)
    budget, started, results = Budget(settings.seconds), datetime.now(UTC), list[Result]()
    for group in GROUPS:
        terminal.line(f"[{budget.spent:3.0f} s of {budget.total:.0f}] {' and '.join(stage.title for stage in group)}")
        results += stages.run(group, settings, budget, out / "log.txt")
    try:
        table = hours.extrapolate(results, settings)
    except Exception as error:  # the rest of the report is worth more
        results.append(Result("extrapolation", stages.FAILED, error=one_line(error)))
        table = hours.Table((), settings.backbones, hours.STEP, "", None)
    made = report.content(machine(name, f"{started:%Y-%m-%d}"), settings, results, table, budget.spent)
    written = report.write(made, table, results, out)
    terminal.write(written[1].read_text(encoding="utf-8") + "\n")
    for line in report.failed(results):
        terminal.line(line, error=True)
    terminal.line(f"written in {budget.spent:.0f} s: {', '.join(map(str, written))}")
    return 1 if report.failed(results) else 0


def device_name(device: str) -> str:
    """What the device is called. UserError: there is no GPU, or the name is unknown."""
    if device == "cpu":
        return f"CPU, {provenance.hardware(None).cpu}"
    if not device.startswith("cuda"):
        raise UserError(f"unknown device '{device}'; give cuda, or cpu for a rehearsal")
    if not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} sees no GPU; rehearse with make gpu DEVICE=cpu, or install torch's CUDA build"
        )
    return torch.cuda.get_device_name(device)


def machine(device: str, day: str) -> dict[str, Any]:
    """What the figures depend on. The device first."""
    here, (commit, dirty) = provenance.hardware(None), provenance.git_state()
    found = {"device": device, "day": day, "CPU": here.cpu, "cores": here.cores}
    if torch.cuda.is_available():
        found["GPU memory, MB"] = round(torch.cuda.get_device_properties(0).total_memory / 1e6)
    found |= {"torch": torch.__version__, "CUDA": torch.version.cuda or "none", "Python": platform.python_version()}
    found |= {"commit": f"{commit[:10]}{' with changes' * bool(dirty)}" if commit else "unknown"}
    return found
