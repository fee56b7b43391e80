"""The machine that computes: its processor, and the libraries whose last digits depend on it. No host or user names."""

import os
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backbench import reading

# Instruction sets that change how fast a cell trains and in which order sums are taken, as Linux names them on x86 and
# on Arm.
INSTRUCTIONS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_bf16", "asimd", "sve",
)  # fmt: skip
# Name of a field -> what Linux calls it, on x86 and on Arm.
_LISTED = {
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_mb() -> int:
    """Main memory in megabytes (10^6 bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)


@cache
def cpu() -> str:
    """Name of the processor. A virtual machine may hide most of it."""
    return _listing().get("model name") or platform.processor() or platform.machine()


@cache
def processor() -> dict[str, Any]:
    """The fields of ``Processor``. Packages that are not installed are "none", what the system hides is "unknown"."""
    listing = _listing()
    flags = set(listing.get("flags", listing.get("Features", "")).split())
    named = {field: next((listing[n] for n in names if n in listing), "unknown") for field, names in _LISTED.items()}
    libc = " ".join(filter(None, platform.libc_ver()))
    return {
        **named,
        "instructions": tuple(name for name in INSTRUCTIONS if name in flags),
        "blas": _blas(),
        "torch": _torch(),
        "libc": libc or "unknown",
    }


def _listing() -> dict[str, str]:
    """The first processor of /proc/cpuinfo, by field. Empty on other systems than Linux."""
    path, fields = Path("/proc/cpuinfo"), dict[str, str]()
    for line in reading.text(path, 64 * reading.MB).splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _blas() -> str:
    """NumPy's BLAS, its version, and the kernel that it chose for this processor."""
    if find_spec("numpy") is None or find_spec("threadpoolctl") is None:
        return "none"
    import numpy  # noqa: F401  # loads the library
    import threadpoolctl

    found = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
    mine = next((one for one in found if "numpy" in one["filepath"]), found[0] if found else None)
    parts = () if mine is None else (mine["internal_api"], mine["version"], mine.get("architecture"))
    return " ".join(str(part) for part in parts if part) or "unknown"


def _torch() -> str:
    """PyTorch's instruction set, and its BLAS."""
    if find_spec("torch") is None:
        return "none"
    import torch

    blas = "MKL" if torch.backends.mkl.is_available() else "no MKL"  # type: ignore[no-untyped-call]
    return f"{torch.backends.cpu.get_cpu_capability()}, {blas}"
