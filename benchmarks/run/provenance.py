"""Where a number came from: code, packages, machine. No paths, host or user names."""

import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backbench import __version__
from backbench.benchmarks.run import machine
from backbench.leaderboard.record.schema import Hardware, Processor

# Packages that scores or costs depend on. Accelerators count if they are installed.
PACKAGES = (
    "torch", "numpy", "gymnasium", "gymnasium-robotics", "mujoco", "ale-py", "minari", "h5py",
    "triton", "mamba-ssm", "causal-conv1d", "flash-attn", "xformers",
)  # fmt: skip
# Folders of generated files: records, verifications, pages. Files beside the folders are written by hand.
GENERATED = "leaderboard/published/*/**"
# New files that can change a number: what Python imports or a compiler builds, and settings. Any other new file does
# not count, such as those in a folder of results or data.
NEW_CODE = ("*.py", "*.so", "*.pyd", "*.c", "*.cpp", "*.h", "*.cu", "configs/**", "suites/**")
CODE = Path(__file__).resolve().parents[2]  # the checkout that the code runs from, or where it is installed


def packages() -> dict[str, str]:
    """Distribution to version, for those that are installed. Backbench's is that of the code that runs.

    The metadata of an editable installation are older after a ``git pull``.
    """
    found = {"backbench": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def git_state(folder: Path = CODE) -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout in ``folder``; (None, None) if it is no checkout.

    Dirty: a file of the commit was changed, outside ``GENERATED``, or there is ``NEW_CODE``.
    """
    if not (folder / "pyproject.toml").is_file():
        return None, None
    changed = ["status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude,glob){GENERATED}"]
    new = ["ls-files", "--others", "--exclude-standard", "--", *NEW_CODE, f":(exclude,glob){GENERATED}"]
    try:
        commit, *differs = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20)
            for words in (["rev-parse", "HEAD"], changed, new)
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.stdout.strip(), any(one.stdout.strip() for one in differs)


def hardware(gpu: str | None) -> Hardware:
    """The machine as the process sees it. ``gpu`` is the model of the accelerator that was used."""
    found = Processor(**machine.processor())
    return Hardware(cpu=machine.cpu(), cores=machine.cores(), memory_mb=machine.memory_mb(), gpu=gpu, processor=found)
