"""Where a number came from: code, packages, machine. No paths, host or user names."""

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backbench.leaderboard.record.schema import Hardware

# Packages that scores or costs depend on. Accelerators count if they are installed.
PACKAGES = (
    "backbench", "torch", "numpy", "gymnasium", "gymnasium-robotics", "mujoco", "ale-py", "minari", "h5py",
    "triton", "mamba-ssm", "causal-conv1d", "flash-attn", "xformers",
)  # fmt: skip
# Folders of generated files: records, verifications, pages. Files beside the folders are written by hand.
GENERATED = "leaderboard/published/*/**"
CODE = Path(__file__).resolve().parents[2]  # the checkout that the code runs from, or where it is installed


def packages() -> dict[str, str]:
    """Distribution to version, for those that are installed."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def git_state(folder: Path = CODE) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout in ``folder``, ignoring ``GENERATED``; (None, None) if it is no checkout."""
    if not (folder / "pyproject.toml").is_file():
        return None, None
    # Every untracked file by itself: git would name a new folder even if all its files are excluded.
    status = ["status", "--porcelain", "--untracked-files=all", "--", ".", f":(exclude,glob){GENERATED}"]
    try:
        commit, dirty = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20)
            for words in (["rev-parse", "HEAD"], status)
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.stdout.strip(), bool(dirty.stdout.strip())


def hardware(gpu: str | None) -> Hardware:
    """The machine as the process sees it."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    return Hardware(cpu=model, cores=cores(), memory_mb=round(memory), gpu=gpu)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
