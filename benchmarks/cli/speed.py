"""``bench speed``. Its options are generated from the fields of ``SpeedConfig``."""

from __future__ import annotations

import os
from dataclasses import Field, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from backbench.benchmarks.cli import words
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.errors import UserError

HINTS = get_type_hints(SpeedConfig)


def speed(**given: Any) -> None:
    """Measure training, acting, memory and kernels of backbones on this machine, beside their peers."""
    given["options"] = words.options(given.pop("overrides") or [])
    config = SpeedConfig(**{one.name: _value(one, given[one.name]) for one in fields(SpeedConfig)})
    if config.source is not None:
        from backbench.benchmarks.speed.report import read
        from backbench.benchmarks.speed.tables import show

        show(read(config.source), config.markdown)
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))  # before torch is imported
    from backbench.benchmarks.speed.run import speed as measure

    raise typer.Exit(measure(config))


def _listed(one: Field[Any]) -> bool:
    return get_origin(HINTS[one.name]) is tuple


def _shown(one: Field[Any]) -> Any:
    """Default of the option; a list is comma-separated text."""
    default: Any = one.default if one.metadata["shown"] is None else one.metadata["shown"]
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


def _parameter(one: Field[Any]) -> Parameter:
    said = one.metadata
    if one.name == "options":
        kind: Any = Annotated[list[str] | None, typer.Argument(help=said["help"])]
        return Parameter("overrides", Parameter.KEYWORD_ONLY, default=None, annotation=kind)
    name = said["name"] or f"--{one.name.replace('_', '-')}"
    hint = str if _listed(one) else HINTS[one.name]
    kind = Annotated[hint, typer.Option(name, help=said["help"])]
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=_shown(one), annotation=kind)


def _value(one: Field[Any], given: Any) -> Any:
    """What the user typed as the field's value. Its default text means its default."""
    if not _listed(one):
        return given
    if given == _shown(one):
        return one.default
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    if HINTS[one.name] == tuple[str, ...]:
        return words
    try:
        return tuple(int(word) for word in words)
    except ValueError as error:
        raise UserError(f"--{one.name} {given}: give whole numbers, such as 20,64,256") from error


parameters = [_parameter(one) for one in fields(SpeedConfig)]
speed.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
speed.__annotations__ = {one.name: one.annotation for one in parameters}
