"""One registry for everything that has a name: lazy (nothing is imported early) and strict (every mistake is named)."""

import importlib
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar, cast

from backbench.errors import UserError, one_line, suggest

T = TypeVar("T")
ADDED = "registered here"


class Registry(Generic[T]):
    """Objects by name: built in, from an entry point of an installed package, or given as ``package.module:Name``.

    A name is looked up in that order. Two objects under one name are an error for that name, never a silent override.
    ``Registry[type[Backbone]]`` holds classes, ``Registry[Source]`` instances.
    """

    def __init__(
        self, kind: str, builtin: Mapping[str, str], bases: Sequence[type | str] = (), group: str | None = None
    ) -> None:
        """Make a registry.

        Args:
            kind: what the objects are, as error messages call it ("backbone").
            builtin: name to ``"module:Name"``, in the order in which ``names`` lists them.
            bases: one of these must be a base class of a class, or the class of an instance. A ``"module:Class"``
                string is imported only when needed.
            group: the entry point group that other packages add to; None for a registry that is closed.
        """
        self.kind = kind
        self.group = group
        self._bases = tuple(bases)
        self._builtin = dict(builtin)
        self._added: dict[str, T] = {}

    def names(self) -> list[str]:
        """All names: the built-in ones, those of entry points, then those added here. Imports none of the objects."""
        points = sorted(point.name for point in self._entry_points())
        return list(dict.fromkeys([*self._builtin, *points, *self._added]))

    def add(self, name: str, found: T) -> None:
        """Name an object in this process. A name that was added before gets the new object.

        Raises:
            UserError: the name is built in or of an installed package, or is no name; the object is of a wrong kind.
        """
        if not re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII):
            raise UserError(f"{self.kind} {name!r}: a name has letters, digits, - and _, and no digit first")
        if name not in self._added and name in self.names():
            raise UserError(f"{self.kind} '{name}' is {self.origin(name)}; choose another name")
        self._added[name] = self._fitting(found, f"{self.kind} '{name}'")

    def only_here(self, name: str) -> bool:
        """Whether ``name`` was added for an object that no other process can import."""
        return name in self._added and name not in self.importable()

    def importable(self) -> dict[str, str]:
        """Name to ``"module:Name"`` of the objects that were added and that another process can import."""
        return {name: target for name, one in self._added.items() if (target := _target(one)) is not None}

    def origin(self, name: str) -> str:
        """Where ``name`` comes from: "built-in", "entry point of <distribution>" or "command line"."""
        return self._find(name)[1]

    def get(self, name: str) -> T:
        """The object called ``name``.

        Raises:
            UserError: the name is unknown or taken twice, the import fails, or the object is of the wrong kind.
        """
        if name in self._added:
            return self._added[name]
        target, origin = self._find(name)
        if origin == "command line" and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # last: a file here hides nothing that is installed
        where = f"{self.kind} '{name}' ({origin}: {target})" if name != target else f"{self.kind} '{name}'"
        return self._fitting(load(target, where, origin), where)

    def _fitting(self, found: object, where: str) -> T:
        bases = tuple(
            cast("type", load(base, f"base of {self.kind}", "built-in") if isinstance(base, str) else base) for base in self._bases
        )
        fits = issubclass(found, bases) if isinstance(found, type) else isinstance(found, bases)
        if bases and not fits:
            wanted = " or ".join(f"{base.__module__}.{base.__qualname__}" for base in bases)
            raise UserError(f"{where} is not a class derived from {wanted}; derive it from one")
        return cast("T", found)

    def all(self) -> dict[str, T]:
        """Every object by its name."""
        return {name: self.get(name) for name in self.names()}

    def _entry_points(self) -> list[importlib.metadata.EntryPoint]:
        return list(importlib.metadata.entry_points(group=self.group)) if self.group else []

    def _find(self, name: str) -> tuple[str, str]:
        """The ``"module:Name"`` behind a name, and where it comes from."""
        if name in self._added:
            return name, ADDED
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
        if self.group and colon and module and attribute:
            return name, "command line"
        other = ", module:Class or file.py:Class" if self.group else ""
        raise UserError(f"unknown {self.kind} '{name}'{suggest(name, self.names())}{other}")


def _target(found: object) -> str | None:
    """``"module:Name"`` of a class that can be imported by it; None of one in the main script or in a function."""
    module, name = getattr(found, "__module__", "__main__"), getattr(found, "__qualname__", "")
    there: object = None if module == "__main__" else sys.modules.get(module)
    for part in name.split("."):
        there = getattr(there, part, None)
    return f"{module}:{name}" if there is found else None


def load(target: str, where: str, origin: str) -> object:
    """Import ``"module:Name"``; every failure becomes one line that names the place and the remedy."""
    module_name, _, attribute = target.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # No command with the name in it: a package of that name may be a stranger's.
        missing = (error.name or module_name).partition(".")[0]
        if missing == __name__.partition(".")[0]:
            remedy = "check its spelling"
        elif origin == "command line" and missing == module_name.partition(".")[0]:
            remedy = f"run the command in the folder of {missing}.py, or name the file: ./{missing}.py:{attribute}"
        elif origin == "built-in":
            remedy = "the installation is incomplete: bench doctor lists what is missing"
        else:
            remedy = f"install the package with the module '{missing}', or what needs it again"
        raise UserError(f"{where} cannot be imported: {error}{_place(error)}; {remedy}") from error
    except Exception as error:  # whatever a plug-in raises while it is imported is the plug-in's failure
        said = f"{type(error).__name__}: {one_line(error)}{_place(error)}"
        raise UserError(f"{where} cannot be imported: '{module_name}' raised {said}; fix it or uninstall it") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key, value in vars(found).items() if isinstance(value, type) and key[0] != "_"]
            inside = getattr(found, "__file__", None) or module_name
            raise UserError(f"{where}: {inside} has no '{part}'{suggest(part, public)}")
        found = getattr(found, part)
    return found


def _place(error: Exception) -> str:
    """The file and line in which an import failed, where that is not Python's own."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
