"""Which implementation of an operation runs: the fastest that fits the input and is there, or the one insisted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from backbench.errors import UserError, suggest

F = TypeVar("F", bound=Callable[..., object])


def _nothing_missing() -> str | None:
    return None


@dataclass(frozen=True)
class Implementation(Generic[F]):
    """One implementation: where it runs, and whether it is there."""

    name: str
    function: F
    # Device types and number types that it takes; None for any.
    devices: tuple[str, ...] | None = None
    dtypes: tuple[torch.dtype, ...] | None = None
    # Whether "auto" may take it; False where it is slower or gives up something (determinism) for its speed.
    auto: bool = True
    # Whether it takes the scan's gate, the convolution's activation, or attention's choice of positions as well.
    fused: bool = False
    # None when it can run on this machine; otherwise what is missing and the remedy, one line. Cheap when asked twice.
    missing: Callable[[], str | None] = _nothing_missing

    def takes(self, device: str, dtype: torch.dtype) -> bool:
        """Whether it is for inputs on this device type and of this number type."""
        return (self.devices is None or device in self.devices) and (self.dtypes is None or dtype in self.dtypes)

    @property
    def summary(self) -> str:
        """The first line of what it says of itself."""
        return (self.function.__doc__ or "").partition("\n")[0]


@dataclass
class Operation(Generic[F]):
    """An operation and its implementations, all equal in values and gradients."""

    name: str
    # Implementation name to implementation, the fastest last.
    table: dict[str, Implementation[F]] = field(default_factory=dict)
    # Implementations that have run since this was last cleared.
    ran: set[str] = field(default_factory=set)
    _found: dict[tuple[str, str, torch.dtype], Implementation[F]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        *,
        devices: tuple[str, ...] | None = None,
        dtypes: tuple[torch.dtype, ...] | None = None,
        auto: bool = True,
        fused: bool = False,
        missing: Callable[[], str | None] = _nothing_missing,
    ) -> Callable[[F], F]:
        """Decorator: register a function as the fastest implementation so far; see :class:`Implementation`."""

        def register(function: F) -> F:
            self.table[name] = Implementation(name, function, devices, dtypes, auto, fused, missing)
            self._found.clear()
            return function

        return register

    def here(self) -> list[str]:
        """Names of the implementations that can run on this machine, the fastest last."""
        return [name for name, entry in self.table.items() if entry.missing() is None]

    def require(self, implementation: str) -> None:
        """Refuse, with UserError, a name that is unknown or that cannot run on this machine."""
        if implementation == "auto":
            return
        if implementation not in self.table:
            hint = suggest(implementation, [*self.table, "auto"])
            raise UserError(f"{self.name} has no implementation '{implementation}'{hint}")
        missing = self.table[implementation].missing()
        if missing is not None:
            raise UserError(f"{self.name}: implementation '{implementation}' cannot run here: {missing}")

    def chosen(
        self, implementation: str = "auto", device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Implementation[F]:
        """What runs when ``implementation`` is asked for on such inputs.

        Raises:
            UserError: an unknown name, or one that cannot run here or on such inputs.
        """
        key = (implementation, device, dtype)
        if key not in self._found:
            self.require(implementation)
            if implementation == "auto":
                fits = [e for e in self.table.values() if e.auto and e.takes(device, dtype) and e.missing() is None]
                self._found[key] = fits[-1]
            else:
                entry = self.table[implementation]
                if not entry.takes(device, dtype):
                    takes = [*(entry.devices or ()), *(str(d).removeprefix("torch.") for d in entry.dtypes or ())]
                    kind = str(dtype).removeprefix("torch.")
                    raise UserError(
                        f"{self.name}: implementation '{implementation}' takes {', '.join(takes)}, "
                        f"not {kind} on {device}; use auto"
                    )
                self._found[key] = entry
        return self._found[key]

    def pick(self, implementation: str, like: Tensor) -> Implementation[F]:
        """What runs when ``implementation`` is asked for on inputs like ``like``; it is noted in `ran`."""
        entry = self.chosen(implementation, like.device.type, like.dtype)
        self.ran.add(entry.name)
        return entry
