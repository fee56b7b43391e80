"""What the optional CUDA implementations need: their packages, a CUDA device, and for Triton a C compiler.

Each package is imported at its first use only: some take seconds, and some cannot be imported without a GPU.
docs/how-to/accelerators.md lists them with the commands that install them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch


def missing(module: str, command: str, needs_compiler: bool = False) -> Callable[[], str | None]:
    """A function that returns one line (what is missing and how to install it), or None if the package can run."""

    def check() -> str | None:
        spec = find_spec(module)
        # A folder that another package left (flash-attn 4 makes one named flash_attn) has no origin.
        if spec is None or spec.origin is None:
            return f"{module} is not installed; {command}"
        if not torch.cuda.is_available():
            return "torch sees no CUDA device (GPU, driver, CUDA build of torch)"
        if needs_compiler and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            return "Triton needs a C compiler to start its kernels; install gcc, or set CC"
        return None

    return check


triton_missing = missing("triton", "pip install triton", needs_compiler=True)
