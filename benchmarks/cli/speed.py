"""``bench speed``. Its options are generated from the fields of ``SpeedConfig``."""

import os
from dataclasses import Field, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, get_type_hints

import typer

from backbench.benchmarks.cli import words
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.errors import UserError

HINTS = get_type_hints(SpeedConfig)
LISTS = {name: hint for name, hint in HINTS.items() if hint in (tuple[str, ...], tuple[int, ...])}


def speed(**given: Any) -> None:
    """Measure training, acting, memory and kernels of backbones on this machine, beside their peers."""
    given["options"] = words.options(given.pop("overrides") or [])
    config = SpeedConfig(**given | {name: _listed(name, given[name]) for name in LISTS})
    if config.source is not None:
        from backbench.benchmarks.speed.report import read
        from backbench.benchmarks.speed.tables import show

        show(read(config.source), config.markdown)
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))  # before torch is imported
    from backbench.benchmarks.speed.run import speed as measure

    raise typer.Exit(measure(config))


def _listed(name: str, text: str) -> tuple[Any, ...]:
    """Comma-separated text as the field's value. The default's text means the default."""
    if text == PARAMETERS[name].default:
        return getattr(SpeedConfig, name)  # type: ignore[no-any-return]
    try:
        if name == "backbones":
            return words.backbone_names(text)
        return tuple(int(word) if HINTS[name] == tuple[int, ...] else word for word in words.split(text))
    except ValueError as error:
        raise UserError(f"--{name} {text}: give whole numbers, such as 20,64,256") from error


def _parameter(one: Field[Any]) -> Parameter:
    about, default = one.metadata, one.default if one.metadata["shown"] is None else one.metadata["shown"]
    if one.name == "options":
        kind: Any = Annotated[list[str] | None, typer.Argument(help=about["help"])]
        return Parameter("overrides", Parameter.KEYWORD_ONLY, default=None, annotation=kind)
    default = ",".join(map(str, default)) if isinstance(default, tuple) else default
    option = typer.Option(about["name"] or f"--{one.name.replace('_', '-')}", help=about["help"])
    kind = Annotated[str if one.name in LISTS else HINTS[one.name], option]
    return Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


PARAMETERS = {one.name: _parameter(one) for one in fields(SpeedConfig)}
speed.__signature__ = Signature(list(PARAMETERS.values()))  # type: ignore[attr-defined]
speed.__annotations__ = {one.name: one.annotation for one in PARAMETERS.values()}
