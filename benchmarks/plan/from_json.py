"""A cell from plain values, as JSON holds them: in a record, and on the way to another process or machine."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from backbench.benchmarks.plan.settings import Cell
from backbench.errors import require
from backbench.leaderboard.record.identity import added

OTHER_VERSION = "another version of Backbench wrote them; run the cell again"


def cell_of(config: Mapping[str, Any]) -> Cell:
    """The cell whose ``resolved()`` is ``config``, which is in a record's provenance.

    Raises UserError, which names the setting: it is unknown, missing, or has a wrong type.
    """
    return _build(Cell, config, "")  # type: ignore[no-any-return]


def _build(cls: type, content: Any, where: str) -> Any:
    """A dataclass from plain values. 1 does not become 1.0: keys tell them apart."""
    require(isinstance(content, Mapping), f"settings {where or 'of the record'} are {content!r}; {OTHER_VERSION}")
    content = {**added(where.rstrip(".")), **content}
    names = [field.name for field in dataclasses.fields(cls)]
    for what, some, others in (("unknown", content, names), ("missing", names, content)):
        wrong = ", ".join(f"{where}{name}" for name in some if name not in others)
        require(not wrong, f"settings of the record: {what} {wrong}; {OTHER_VERSION}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], content[name], f"{where}{name}") for name in names})


def _value(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = typing.get_args(hint)
        if value is None and type(None) in members:
            return None
        (hint,) = (member for member in members if member is not type(None))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{where}.")
    kind = typing.get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        return tuple(_value(typing.get_args(hint)[0], one, where) for one in value)
    fits = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    require(fits, f"settings of the record: {where} is {value!r}; {OTHER_VERSION}")
    return dict(value) if isinstance(value, Mapping) else value
