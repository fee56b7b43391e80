"""Which implementation of an operation runs: the one that the user names, or with ``auto`` the fastest that fits.

Optional packages are imported at their first use only: some take seconds, and some cannot be imported without a GPU.
docs/how-to/accelerators.md lists them with the commands that install them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from backbench.errors import require, suggest

_TRACED = ContextVar("traced", default=False)


@contextmanager
def traced() -> Iterator[None]:
    """Within, each operation runs its first implementation, whatever the user names: plain PyTorch, which a tracer can
    follow. The compiled kernels take pointers, which a tracer has not."""
    token = _TRACED.set(True)
    try:
        yield
    finally:
        _TRACED.reset(token)


def is_traced() -> bool:
    """Whether this runs within `traced`."""
    return _TRACED.get()


@dataclass(frozen=True)
class Implementation:
    """One implementation: its function, and where it runs."""

    name: str
    function: Callable[..., Tensor]  # gets silu, gate and softplus, or a mask of positions, only if it is ``fused``
    devices: tuple[str, ...] | None = None  # device types that it takes; None for any
    dtypes: tuple[torch.dtype, ...] | None = None  # number types that it takes; None for any
    auto: bool = True  # whether "auto" may choose it; False if it is slower, or trades determinism for speed
    fused: bool = False  # whether it does the scan's gate, the convolution's activation, or some attention positions
    missing: Callable[[], str | None] = lambda: None  # what is missing on this machine and how to get it, one line

    def takes(self, device: str, dtype: torch.dtype) -> bool:
        """Whether it accepts inputs of this number type on this device type."""
        return (self.devices is None or device in self.devices) and (self.dtypes is None or dtype in self.dtypes)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]


class Operation:
    """An operation and its implementations, all equal in values and gradients."""

    def __init__(self, name: str, *implementations: Implementation) -> None:
        self.name = name
        self.table = {one.name: one for one in implementations}  # the fastest last
        self.ran: set[str] = set()  # names of the implementations that have run since the set was last cleared
        self._found: dict[tuple[str, str, torch.dtype], Implementation] = {}

    def here(self) -> list[str]:
        """Names of the implementations that can run on this machine, the fastest last."""
        return [name for name, entry in self.table.items() if entry.missing() is None]

    def require(self, implementation: str) -> None:
        """Raise UserError if the name is unknown or cannot run on this machine."""
        if implementation == "auto":
            return
        hint = suggest(implementation, [*self.table, "auto"])
        require(implementation in self.table, f"{self.name} has no implementation '{implementation}'{hint}")
        missing = self.table[implementation].missing()
        require(missing is None, f"{self.name}: implementation '{implementation}' cannot run here: {missing}")

    def chosen(
        self, implementation: str = "auto", device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Implementation:
        """The implementation that runs on such inputs if the user asks for ``implementation``.

        Raises UserError if the name is unknown, or it cannot run here or on such inputs.
        """
        key = (implementation, device, dtype)
        if key not in self._found:
            self.require(implementation)
            able = [e for e in self.table.values() if e.auto and e.takes(device, dtype) and e.missing() is None]
            entry = able[-1] if implementation == "auto" else self.table[implementation]
            given, *types = (str(d).removeprefix("torch.") for d in (dtype, *(entry.dtypes or ())))
            takes = f"takes {', '.join((*(entry.devices or ()), *types))}, not {given} on {device}; use auto"
            require(entry.takes(device, dtype), f"{self.name}: implementation '{implementation}' {takes}")
            self._found[key] = entry
        return self._found[key]

    def pick(self, implementation: str, like: Tensor) -> Implementation:
        """As `chosen`, for inputs like ``like``. Adds its name to `ran`."""
        if _TRACED.get():
            return next(iter(self.table.values()))
        entry = self.chosen(implementation, like.device.type, like.dtype)
        self.ran.add(entry.name)
        return entry


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
