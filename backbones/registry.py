"""A registry that is lazy (nothing is imported before it is asked for) and strict (every mistake is named)."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar, cast

from backbench.backbones.errors import UserError, suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes by name: built in, from an entry point of any installed package, or given as ``package.module:Class``.

    A name is looked up in that order. Two classes under one name are an error for that name, never a silent override.
    """

    def __init__(self, kind: str, bases: Sequence[type[T] | str], builtin: Mapping[str, str], group: str) -> None:
        """Make a registry.

        Args:
            kind: what the classes are, as error messages call it ("backbone").
            bases: the classes of which one must be a base; a ``"module:Class"`` string is imported only when needed.
            builtin: name to ``"module:Class"``.
            group: the entry point group that other packages add to.
        """
        self.kind = kind
        self.group = group
        self._bases = tuple(bases)
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        """All names, sorted: the built-in ones and those of entry points. Imports none of the classes."""
        return sorted({*self._builtin, *(point.name for point in self._entry_points())})

    def origin(self, name: str) -> str:
        """Where ``name`` comes from: "built-in", "entry point of <distribution>" or "command line"."""
        return self._find(name)[1]

    def get(self, name: str) -> type[T]:
        """The class called ``name``.

        Raises:
            UserError: the name is unknown or taken twice, the import fails, or the class is of the wrong kind.
        """
        target, origin = self._find(name)
        where = f"{self.kind} '{name}' ({origin}: {target})" if name != target else f"{self.kind} '{name}'"
        found = _load(target, where)
        bases = tuple(_load(base, f"base of {self.kind}") if isinstance(base, str) else base for base in self._bases)
        if not (isinstance(found, type) and issubclass(found, cast("tuple[type, ...]", bases))):
            wanted = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in cast("tuple[type, ...]", bases))
            raise UserError(f"{where} is not a class derived from {wanted}; derive it from one")
        return cast("type[T]", found)

    def _entry_points(self) -> list[importlib.metadata.EntryPoint]:
        return list(importlib.metadata.entry_points(group=self.group))

    def _find(self, name: str) -> tuple[str, str]:
        """The ``"module:Class"`` behind a name, and where it comes from."""
        found = {self._builtin[name]: "built-in"} if name in self._builtin else {}
        for point in self._entry_points():
            if point.name == name:
                found.setdefault(point.value, f"entry point of {point.dist.name if point.dist else 'unknown'}")
        if len(found) > 1:
            both = " and ".join(f"{target} ({origin})" for target, origin in found.items())
            raise UserError(f"{self.kind} '{name}' is defined twice: {both}; rename or uninstall one")
        if found:
            return next(iter(found.items()))
        module, colon, attribute = name.partition(":")
        if colon and module and attribute:
            return name, "command line"
        raise UserError(f"unknown {self.kind} '{name}'{suggest(name, self.names())}, or package.module:Class")


def _load(target: str, where: str) -> object:
    """Import ``"module:Class"``; every failure becomes one line that names the package and the remedy."""
    module_name, _, attribute = target.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or module_name).partition(".")[0]
        if missing == __name__.partition(".")[0]:  # a module of ours: no package to install
            raise UserError(f"{where} cannot be imported: {error}; check its spelling") from error
        raise UserError(
            f"{where} cannot be imported: {error} (package '{missing}'); "
            f"install it with: pip install {missing}, or put its folder on PYTHONPATH"
        ) from error
    except Exception as error:  # whatever a plug-in raises while it is imported is the plug-in's failure
        package = module_name.partition(".")[0]
        reason = " ".join(str(error).split())
        raise UserError(
            f"{where} cannot be imported: package '{package}' raised {type(error).__name__}: {reason}; "
            "fix or uninstall it"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key, value in vars(found).items() if isinstance(value, type) and key[0] != "_"]
            raise UserError(f"{where}: '{module_name}' has no '{part}'{suggest(part, public)}")
        found = getattr(found, part)
    return found
