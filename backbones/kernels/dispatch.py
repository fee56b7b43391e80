"""Which implementation of an operation runs: the fastest there is, or the one insisted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from backbench.backbones.errors import UserError, suggest

F = TypeVar("F", bound=Callable[..., object])


@dataclass
class Operation(Generic[F]):
    """An operation and its implementations, all equal in values and gradients."""

    name: str
    # Implementation name to function, the fastest last.
    table: dict[str, F] = field(default_factory=dict)
    # Implementations that have run since this was last cleared.
    ran: set[str] = field(default_factory=set)

    def add(self, implementation: str) -> Callable[[F], F]:
        """Decorator: register a function as the fastest implementation so far."""

        def register(function: F) -> F:
            self.table[implementation] = function
            return function

        return register

    def chosen(self, implementation: str = "auto") -> str:
        """The name of what runs when ``implementation`` is asked for.

        Raises:
            UserError: there is no implementation of that name here.
        """
        if implementation == "auto":
            return next(reversed(self.table))
        if implementation not in self.table:
            hint = suggest(implementation, [*self.table, "auto"])
            raise UserError(f"{self.name} has no implementation '{implementation}' here{hint}")
        return implementation

    def pick(self, implementation: str = "auto") -> F:
        """The function that runs when ``implementation`` is asked for."""
        name = self.chosen(implementation)
        self.ran.add(name)
        return self.table[name]
