"""Options from a mapping. Every key must be known and every value of the declared type. Every error is one line."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from backbench.errors import UserError, require, suggest


def make_options(cls: type, values: Mapping[str, Any] | object | None = None) -> Any:
    """Build the frozen options dataclass of a backbone; ``cls`` is the backbone, or the dataclass itself.

    ``values`` maps fields to values; an instance of the dataclass is returned unchanged, and None means the defaults.
    Raises UserError: an unknown or missing key, a value of another type, or one that the dataclass itself refuses.
    """
    options_type: type = getattr(cls, "Options", cls)
    owner = cls.__name__.removesuffix("Options") or cls.__name__
    values = {} if values is None else values
    if isinstance(values, options_type):
        return values
    if not isinstance(values, Mapping):
        raise UserError(f"options of {owner}: expected a mapping or {options_type.__name__}, got {values!r}")
    if not dataclasses.is_dataclass(options_type):
        raise UserError(f"{owner}: Options is {options_type.__name__}, not a dataclass; make it a frozen one")
    hints = typing.get_type_hints(options_type)
    fields = {field.name: field for field in dataclasses.fields(options_type)}
    for key in values:
        require(key in fields, f"unknown option '{key}' of {owner}{suggest(str(key), fields)}")
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = ", ".join(name for name in required if name not in values)
    require(not missing, f"options of {owner}: no value for {missing}; give one")
    return options_type(**{k: _checked(v, hints[k], f"option '{k}' of {owner}") for k, v in values.items()})


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it fits the type ``hint``. Integers become floats if ``hint`` is float."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value in choices and type(value) in {type(choice) for choice in choices}:
            return value
        raise UserError(f"{where} is {value!r}{suggest(str(value), [str(choice) for choice in choices])}")
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            try:
                return _checked(value, member, where)
            except UserError:
                continue
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return make_options(hint, value)
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(value)
    elif not isinstance(hint, type) or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value  # the dataclass itself checks hints that this function does not know
    name = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
    raise UserError(f"{where} is {value!r}; give a value of type {name}")
