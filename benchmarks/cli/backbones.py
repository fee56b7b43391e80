"""``bench list``, ``cite`` and ``check``: what can be compared, its papers, and whether it keeps the contract."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from backbench import terminal
from backbench.benchmarks.cli import words
from backbench.errors import UserError, require, suggest
from backbench.text import plain

KINDS = ("backbones", "suites", "tasks", "presets")


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)] + words.backbones(incomplete)


def list_(
    what: Annotated[
        str, typer.Argument(help="backbones, suites, tasks, presets, or one backbone.", autocompletion=_kinds)
    ] = "backbones",
) -> None:
    """List backbones, suites, tasks or presets, or the options of one backbone."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.plan import compose, suites

    if what == "backbones":
        _list_backbones()
    elif what == "suites":
        for table in suites.tables():
            terminal.line(f"{table.name:<16} {len(table.tasks):>3} tasks  {table.description}".rstrip())
    elif what == "tasks":
        for table in suites.tables():
            for name, row in table.tasks.items():
                terminal.line(f"{table.name:<16} {name:<28} data: {', '.join(row.sources)}")
    elif what == "presets":
        terminal.write("".join(f"{name}\n" for name in compose.presets()))
    elif what in BACKBONES.names() or set(what) & set(":+"):
        _list_backbone(what)
    else:
        raise UserError(f"cannot list '{what}'{suggest(what, (*KINDS, *BACKBONES.names()))}")


def cite(
    names: Annotated[list[str] | None, typer.Argument(help="Backbones and suites. Default: Backbench itself.")] = None,
) -> None:
    """Print BibTeX entries of backbones, suites and Backbench."""
    from backbench import __version__
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.plan import suites
    from backbench.references import BACKBENCH, cited

    found = [BACKBENCH.replace("VERSION", __version__)]
    known = {table.name: table.papers for table in suites.tables()}
    for name in names or ():
        parts = [part for one in name.split(",") for part in one.split("+") if part]
        for part in parts:
            if part not in known and part not in BACKBONES.names() and ":" not in part:
                raise UserError(f"cannot cite '{part}'{suggest(part, (*BACKBONES.names(), *known))}")
            paper = known[part] if part in known else str(getattr(BACKBONES.get(part), "paper", ""))
            found += cited(paper) or [f"% {part}: it names no paper"]
    terminal.write("\n\n".join(dict.fromkeys(found)) + "\n")


def _list_backbones() -> None:
    from backbench.backbones import BACKBONES, summary_of

    names = BACKBONES.names()
    width = max(map(len, names)) + 1
    for name in names:
        try:
            said, origin = summary_of(BACKBONES.get(name)), BACKBONES.origin(name)
        except UserError as error:  # one broken plug-in does not hide the others
            said, origin = f"broken: {error}", "built-in"
        terminal.line(f"{name:<{width}}{said}{'' if origin == 'built-in' else f' [{origin}]'}")
    terminal.line("")
    terminal.line("Options of one: bench list mamba. Several in turn: --backbone mamba+mamba+transformer.")


def _list_backbone(name: str) -> None:
    """A backbone with its papers and options."""
    from backbench.backbones import BACKBONES, summary_of

    name = ",".join(words.backbone_names(name))
    cls = BACKBONES.get(name)
    paper, values = getattr(cls, "paper", ""), _values(cls.Options, "backbone")
    terminal.line(f"{name}: {summary_of(cls)}")
    for text in (paper and f"paper: {paper}", "  ".join(values)):
        terminal.write(textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="  ") + "\n" * bool(text))


def _values(options: Any, prefix: str) -> Iterator[str]:
    """``key=default`` of each option; a hybrid's parts have groups of them."""
    for field in dataclasses.fields(options):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from _values(field.type, f"{prefix}.{field.name}")
        else:
            yield f"{prefix}.{field.name}={_default(field)}"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return str(field.default)
    return str(field.default_factory()) if field.default_factory is not dataclasses.MISSING else "(required)"


def check(
    backbone: Annotated[
        str,
        typer.Argument(
            help="Names, comma-separated, or all; module:Class, file.py:Class.", autocompletion=words.backbones
        ),
    ],
    options: Annotated[list[str] | None, typer.Argument(help="Options of the backbone, key=value.")] = None,
) -> None:
    """Check that a backbone keeps the contract: shapes, causality, step equals forward, reset, gradients, repeats."""
    names, given = words.backbone_names(backbone), words.options(options or [])
    require(bool(names), "name a backbone; bench list backbones")
    raise typer.Exit(1 if sum(_failures(name, given) for name in names) else 0)


def _failures(name: str, options: dict[str, Any]) -> int:
    """How many rules of the contract a backbone fails, after printing all."""
    from rich.table import Table

    from backbench.backbones.check import check as run_checks

    results = run_checks(name, options)
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "measured"):
        table.add_column(title)
    for result in results:
        mark = terminal.styled("ok", "green") if result.passed else terminal.styled("FAILED", "red")
        table.add_row(mark, result.name, plain(result.detail))
    console = terminal.console()
    console.print(table)
    failed = sum(not result.passed for result in results)
    terminal.say(console, f"{name}: {len(results) - failed} of {len(results)} checks passed")
    return failed
