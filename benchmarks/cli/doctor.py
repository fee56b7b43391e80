"""What ``bench doctor`` says: what is here, what is missing, what that would bring, and the command that installs it.

It has to work where something is missing, so nothing outside the standard library is imported before it was looked for.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Instruction sets that change how fast a cell trains, as Linux names them on x86 and on Arm.
INSTRUCTIONS = (
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "asimd",
    "sve",
)
# Distribution, what it brings, and its command. What implements an operation is in the operation's own table.
OPTIONAL = (
    ("transformers", "a peer in bench speed: GPT-2 and Mamba", "pip install 'transformers>=5,<6'"),
    ("mambapy", "a peer in bench speed: Mamba by a parallel scan", "pip install mambapy==1.2.0"),
    ("gymnasium-robotics", "adroit, antmaze, pointmaze, kitchen", "pip install 'gymnasium-robotics>=1.4,<2'"),
    ("sbx-rl", "policies for data sets of your own", "pip install 'sbx-rl>=0.28'"),
)


def examine() -> dict[str, Any]:
    """Everything that is known of this machine, as JSON holds it; ``ready`` says whether what has to be here is."""
    packages = [_package(*required) for required in _required()]
    packages += [_package(name, brings, command, False) for name, brings, command in OPTIONAL]
    return {
        "backbench": _version("backbench"),
        "ready": all(package["version"] for package in packages if package["required"]),
        "python": {"version": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"},
        "cpu": _cpu(),
        "torch": _torch(),
        "packages": packages,
        "operations": _operations(),
        "data": _data(),
        "tracking": "sqlite:///results/mlflow.db",
    }


def _required() -> list[tuple[str, str, str, bool]]:
    """What the package's own metadata ask for, without extras."""
    found = []
    for line in requires("backbench") or []:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        if name and "extra" not in marker:
            found.append((name[0], "nothing runs without it", f"pip install '{requirement.strip()}'", True))
    return found


def _package(name: str, brings: str, command: str, required: bool) -> dict[str, Any]:
    return {"name": name, "version": _version(name), "required": required, "brings": brings, "command": command}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    """Name and instruction sets as the kernel lists them; elsewhere than on Linux the name alone."""
    fields: dict[str, str] = {}
    listing = Path("/proc/cpuinfo")
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "name": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def _torch() -> dict[str, Any] | None:
    """The build, its threads, and the GPUs that it sees; None without PyTorch."""
    if find_spec("torch") is None:
        return None
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        of = torch.cuda.get_device_properties(index)
        memory = round(of.total_memory / 1e6)
        gpus.append({"name": of.name, "memory_mb": memory, "capability": f"{of.major}.{of.minor}"})
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpus": gpus,
    }


def _operations() -> dict[str, Any]:
    """Of every operation: its implementations, and which one ``auto`` takes on each device for float32."""
    if find_spec("torch") is None:
        return {}
    import torch

    from backbench.backbones.kernels import OPERATIONS

    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return {
        operation.name: {
            "auto": {device: operation.chosen("auto", device).name for device in devices},
            "implementations": [
                {
                    "name": name,
                    "summary": entry.summary,
                    "missing": entry.missing(),
                    "devices": entry.devices,
                    "dtypes": entry.dtypes and [str(dtype).removeprefix("torch.") for dtype in entry.dtypes],
                    "auto": entry.auto,
                }
                for name, entry in operation.table.items()
            ],
        }
        for operation in OPERATIONS.values()
    }


def _data() -> dict[str, Any] | None:
    """The store's folder, how many data sets are in it, and free space there and here; None without NumPy."""
    if find_spec("numpy") is None:
        return None
    from backbench.benchmarks.data import store

    folder = store.root().absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    free = {
        "free_mb": round(shutil.disk_usage(above).free / 1e6),
        "free_here_mb": round(shutil.disk_usage(".").free / 1e6),
    }
    return {"folder": str(folder), "sets": len(store.names()), **free}


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report for people; it fits 80 columns."""
    from rich.markup import escape

    cpu, torch, data = report["cpu"], report["torch"], report["data"]
    table = _table()
    table.add_row("", "python", f"{report['python']['version']}, {report['python']['system']}")
    table.add_row("", "cpu", escape(f"{cpu['name']}, {cpu['cores']} cores: {' '.join(cpu['instructions'])}"))
    if torch:
        build = f"CUDA {torch['cuda']}" if torch["cuda"] else "a build without CUDA"
        table.add_row("", "torch", f"{torch['version']}, {build}; {torch['threads']} threads, {torch['instructions']}")
        for gpu in torch["gpus"]:
            table.add_row("", "gpu", escape(f"{gpu['name']}, {gpu['memory_mb']:,} MB, capability {gpu['capability']}"))
        if not torch["gpus"]:
            table.add_row("", "gpu", "none; everything runs without one")
    if data:
        table.add_row(
            "", "data", escape(f"{data['sets']} sets in {_short(data['folder'])}, {data['free_mb']:,} MB free")
        )
        table.add_row("", "results", f"here, {data['free_here_mb']:,} MB free")
    table.add_row("", "tracking", f"{report['tracking']}; bench run --track changes it")
    console.print(f"[bold]backbench {report['backbench']}[/]", table, sep="\n", highlight=False)

    table = _table()
    for package in report["packages"]:
        text = package["version"] or f"{package['brings']}\n{package['command']}"
        table.add_row(_mark(package["version"], package["required"]), package["name"], escape(text))
    console.print("\n[bold]packages[/]", table, sep="\n", highlight=False)

    for name, operation in report["operations"].items():
        table = _table()
        for entry in operation["implementations"]:
            # The remedy on a line of its own: commands are copied.
            missing = f"\n{entry['missing'].replace('; ', chr(10), 1)}" if entry["missing"] else ""
            table.add_row(_mark(not entry["missing"], False), entry["name"], escape(entry["summary"] + missing))
        taken = ", ".join(f"{taken} on {device}" for device, taken in operation["auto"].items())
        console.print(f"\n[bold]{name}[/]: auto takes {taken}", table, sep="\n", highlight=False)

    lacking = [package["name"] for package in report["packages"] if package["required"] and not package["version"]]
    verdict = f"[red]missing: {', '.join(lacking)}[/]" if lacking else "[green]everything needed to run is here[/]"
    console.print(f"\n{verdict}", highlight=False)


def _table() -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=2)
    table.add_column(width=13)
    table.add_column(overflow="fold")
    return table


def _mark(here: object, required: bool) -> str:
    return "[green]ok[/]" if here else "[red]no[/]" if required else "[yellow]--[/]"


def _short(folder: str) -> str:
    home = str(Path.home())
    return f"~{folder.removeprefix(home)}" if folder.startswith(home + os.sep) else folder
