"""``bench doctor``: check the installation. What is installed, what is missing, and how to install it.

It must work where something is missing, so it looks for a package before it imports it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backbench import __version__, terminal
from backbench.benchmarks.run import machine
from backbench.text import count

if TYPE_CHECKING:
    from rich.console import Console

# Optional packages: distribution, use, and the command that installs it. An operation's own table lists its kernels.
OPTIONAL = (
    ("transformers", "a peer in bench speed: GPT-2 and Mamba", "pip install 'transformers>=5,<6'"),
    ("mambapy", "a peer in bench speed: Mamba by a parallel scan", "pip install mambapy==1.2.0"),
    ("gymnasium-robotics", "adroit, antmaze, pointmaze, kitchen", "pip install 'gymnasium-robotics>=1.4,<2'"),
    ("sbx-rl", "policies for data sets of your own", "pip install 'sbx-rl>=0.28'"),
    ("onnxscript", "bench export --format onnx", "pip install 'backbench[onnx]'"),
    ("svglib", "bench leaderboard --format pdf", "pip install 'backbench[papers]'"),
    ("tensorboard", "--track tensorboard", "pip install 'backbench[tensorboard]'"),
    ("wandb", "--track wandb", "pip install 'backbench[wandb]'"),
    ("optuna", "--tune N --sampler optuna", "pip install 'backbench[tune]'"),
    ("ray", "--executor ray", "pip install 'backbench[ray]'"),
    ("s3fs", "--out s3://bucket/prefix", "pip install 'backbench[storage]'"),
)
MARKS = {"ok": "green", "no": "red", "--": "yellow"}


def doctor(json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the installation: what is installed, what is missing and how to install it.

    Exits 1 if `bench run` cannot work.
    """
    report = examine()
    if json_:
        terminal.write(json.dumps(report, indent=2) + "\n")
    else:
        show(report, terminal.console())
    raise typer.Exit(0 if report["ready"] else 1)


def examine() -> dict[str, Any]:
    """The state of the installation, as JSON holds it. ``ready``: every required package is installed."""
    packages, system = _packages(), f"{platform.system()} {platform.machine()}"
    return {
        "backbench": __version__,
        "ready": all(package["version"] for package in packages if package["required"]),
        "python": {"version": platform.python_version(), "system": system},
        "cpu": {"name": machine.cpu(), "cores": machine.cores(), **machine.processor()},
        "torch": _torch(),
        "packages": packages,
        "operations": _operations(),
        "data": _data(),
        "tracking": "sqlite:///results/mlflow.db",
    }


def _packages() -> list[dict[str, Any]]:
    """The dependencies in the package's metadata, without extras, then the optional packages."""
    listed: list[tuple[bool, str, str, str]] = []
    for line in requires("backbench") or []:
        requirement, _, marker = line.partition(";")
        if (name := re.match(r"[\w.-]+", requirement)) and "extra" not in marker:
            listed.append((True, name[0], "nothing runs without it", f"pip install '{requirement.strip()}'"))
    listed += [(False, *optional) for optional in OPTIONAL]
    return [
        {"name": name, "version": _version(name), "required": required, "brings": use, "command": command}
        for required, name, use, command in listed
    ]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any] | None:
    """PyTorch's build, threads and GPUs. None without PyTorch."""
    if find_spec("torch") is None:
        return None
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [
        {"name": gpu.name, "memory_mb": round(gpu.total_memory / 1e6), "capability": f"{gpu.major}.{gpu.minor}"}
        for gpu in map(torch.cuda.get_device_properties, range(count))
    ]
    build = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
    return {**build, "instructions": torch.backends.cpu.get_cpu_capability(), "gpus": gpus}


def _operations() -> dict[str, Any]:
    """Implementations of every operation, and the one that ``auto`` takes on each device for float32."""
    if find_spec("torch") is None:
        return {}
    import torch

    from backbench.backbones.kernels import OPERATIONS

    found = {}
    for operation in OPERATIONS.values():
        implementations = []
        for name, entry in operation.table.items():
            dtypes = entry.dtypes and [str(dtype).removeprefix("torch.") for dtype in entry.dtypes]
            implementations.append({"name": name, "summary": entry.summary, "missing": entry.missing(),
                                    "devices": entry.devices, "dtypes": dtypes, "auto": entry.auto})  # fmt: skip
        devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
        auto = {device: operation.chosen("auto", device).name for device in devices}
        found[operation.name] = {"auto": auto, "implementations": implementations}
    return found


def _data() -> dict[str, Any] | None:
    """The store's folder, its number of data sets, and free space there and here. None without NumPy."""
    if find_spec("numpy") is None:
        return None
    from backbench.benchmarks.data import store

    folder = store.root().absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    free, here = (round(shutil.disk_usage(path).free / 1e6) for path in (above, "."))
    return {"folder": str(folder), "sets": len(store.names()), "free_mb": free, "free_here_mb": here}


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report for people, on 80 columns."""
    _show(console, f"backbench {report['backbench']}", [("", name, text) for name, text in _machine(report)])
    lines = []
    for one in report["packages"]:
        mark = "ok" if one["version"] else "no" if one["required"] else "--"
        lines.append((mark, one["name"], one["version"] or f"{one['brings']}\n{one['command']}"))
    _show(console, "packages", lines)
    for name, operation in report["operations"].items():
        lines = []
        for one in operation["implementations"]:
            # The remedy has a line of its own, so that it can be copied.
            missing = f"\n{one['missing'].replace('; ', chr(10), 1)}" if one["missing"] else ""
            lines.append(("--" if missing else "ok", one["name"], one["summary"] + missing))
        auto = ", ".join(f"{taken} on {device}" for device, taken in operation["auto"].items())
        _show(console, name, lines, f": auto takes {auto}")
    lacking = ", ".join(one["name"] for one in report["packages"] if one["required"] and not one["version"])
    verdict = f"missing: {lacking}" if lacking else "everything that bench run needs is installed"
    console.print(verdict, style="red" if lacking else "green")


def _machine(report: dict[str, Any]) -> Iterable[tuple[str, str]]:
    cpu, torch, data, python = (report[key] for key in ("cpu", "torch", "data", "python"))
    yield "python", f"{python['version']}, {python['system']}"
    kind = f"{cpu['vendor']} family {cpu['family']} model {cpu['model']} stepping {cpu['stepping']}"
    yield "cpu", f"{cpu['name']} ({kind}), {count(cpu['cores'], 'core')}: {' '.join(cpu['instructions'])}"
    yield "arithmetic", f"BLAS {cpu['blas']}; torch {cpu['torch']}; {cpu['libc']}"
    if torch:
        build = f"CUDA {torch['cuda']}" if torch["cuda"] else "a build without CUDA"
        yield "torch", f"{torch['version']}, {build}; {count(torch['threads'], 'thread')}, {torch['instructions']}"
        found = [f"{gpu['name']}, {gpu['memory_mb']:,} MB, capability {gpu['capability']}" for gpu in torch["gpus"]]
        yield from (("gpu", gpu) for gpu in found or ["none; everything runs without one"])
    if data:
        home = str(Path.home())
        folder = f"~{data['folder'].removeprefix(home)}" if data["folder"].startswith(home + os.sep) else data["folder"]
        yield "data", f"{count(data['sets'], 'set')} in {folder}, {data['free_mb']:,} MB free"
        yield "results", f"here, {data['free_here_mb']:,} MB free"
    yield "tracking", f"{report['tracking']}; change it with bench run --track"


def _show(console: Console, title: str, lines: Iterable[tuple[str, str, str]], more: str = "") -> None:
    """Print a title and lines of mark, name and text, then an empty line."""
    from rich.table import Column, Table
    from rich.text import Text

    columns = Column(width=2), Column(width=13), Column(overflow="fold")
    table = Table(*columns, box=None, show_header=False, pad_edge=False)
    for mark, name, text in lines:
        table.add_row(terminal.styled(mark, MARKS.get(mark, "")), name, text)
    console.print(Text.assemble((title, "bold"), more), table, "", sep="\n")
