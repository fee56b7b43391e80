"""``bench data``: list, make, pull, show, verify and remove data sets. Heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

data_app = typer.Typer(help="Make or bring data sets, look at them, check them, remove them.", no_args_is_help=True)
Source = Annotated[str, typer.Option(help="Data source that tasks and suites are meant with; default: the suite's.")]


@data_app.command("list")
def list_(
    source: Annotated[str, typer.Option(help="Only this source: embedded, d4rl, minari, dqn-replay, local.")] = "",
) -> None:
    """The data sets in the store, and those that can be made or pulled: size, licence, where they come from."""
    from rich.console import Console

    from backbench.benchmarks.cli.data_list import listed, show
    from backbench.benchmarks.plan.suite_file import SOURCES
    from backbench.errors import UserError, suggest

    if source and source not in SOURCES:
        raise UserError(f"unknown data source '{source}'{suggest(source, SOURCES)}")
    # A command that was cut off in a pipe could not be copied.
    wide = Console() if sys.stdout.isatty() else Console(width=200)
    show([row for row in listed() if not source or row.source == source], wide)


@data_app.command()
def make(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets, tasks or suites; default: those of d4rl.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Make it anew where it is there.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Side by side; 0: one a core.")] = 0,
) -> None:
    """Make embedded data sets: the policies in the package play in the local simulator."""
    from rich.console import Console

    from backbench.benchmarks.cli.data_show import show
    from backbench.benchmarks.data import sources, store
    from backbench.benchmarks.data.sources import embedded
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.sinks import terminal

    ids = dict.fromkeys(id_ for name in names or ["d4rl"] for id_ in _ids(name, "embedded"))
    wanted = [embedded.parse(name) for name in ids]
    due = [name.id for name in wanted if force or not store.exists(name.id)]
    if due:
        sources.make_all(due, jobs or provenance.cores(), terminal.progress_of(due, Console(), "made"))
    show([name.id for name in wanted], Console(), histogram=False)


@data_app.command()
def pull(
    source: Annotated[str, typer.Argument(help="d4rl, minari or dqn-replay.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks, suites or ids, such as hopper-medium; games for dqn-replay. Default: d4rl's nine."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", help="Folder of the published files, or address that they are below.")
    ] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep the fetched files in the store's cache.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Bring it anew where it is there.")] = False,
    transitions: Annotated[int, typer.Option(help="dqn-replay: transitions to take of the logs, at least.")] = 500_000,
    seed: Annotated[int, typer.Option(help="dqn-replay: of the choice of episodes.")] = 0,
    run: Annotated[int, typer.Option(help="dqn-replay: which of the five agents' logs.")] = 1,
    trajectories_per_buffer: Annotated[int, typer.Option(help="dqn-replay: episodes that are taken at a time.")] = 10,
    buffers: Annotated[int, typer.Option(help="dqn-replay: take them from so many of the last buffers.")] = 50,
) -> None:
    """Bring published data into the store: downloads are resumed, checked, and in place only when they are whole."""
    from rich.console import Console

    from backbench.benchmarks.data import sources
    from backbench.benchmarks.data.sources import pull as pulling
    from backbench.benchmarks.data.sources.dqn_select import Choice
    from backbench.benchmarks.run.sinks import terminal

    choice = Choice(transitions, seed, run, trajectories_per_buffer, buffers)
    said = Console(stderr=True)

    def report(line: str) -> None:
        said.print(line, markup=False, highlight=False, soft_wrap=True)

    with sources.leaving_on_sigterm(), terminal.transfer(said, "fetching") as progress:
        for name in pulling.pull(source, names or [], choice, from_, keep, force, report, progress):
            print(pulling.summary(name), flush=True)


@data_app.command()
def show(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets in the store, tasks or suites; default: all.")
    ] = None,
    data: Source = "",
) -> None:
    """Counts, returns and their spread, normalised return; of named ones also hash, histogram and what is odd."""
    from rich.console import Console

    from backbench.benchmarks.cli.data_show import show as show_

    show_(_chosen(names, data), Console(), histogram=bool(names))


@data_app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets in the store, tasks or suites; default: all.")
    ] = None,
    data: Source = "",
) -> None:
    """Read data sets whole: hash, counts, NaN, ends of episodes, returns against the noted ones; 1 if one is broken."""
    from rich.console import Console

    from backbench.benchmarks.cli.data_show import verify as verify_

    raise typer.Exit(0 if verify_(_chosen(names, data), Console()) else 1)


@data_app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Data sets in the store, tasks or suites.")],
    data: Source = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove data sets from the store."""
    from backbench.benchmarks.data import store
    from backbench.errors import UserError

    chosen = [name for name in _chosen(names, data) if store.exists(name)]
    if not chosen:
        raise UserError(f"none of {', '.join(names)} is in the store {store.root()}: bench data list")
    size = sum(store.size(name) for name in chosen)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{len(chosen)} data sets, {size / 1e6:,.1f} MB, would be removed; say so with --yes")
        typer.confirm(f"Remove {', '.join(chosen)} ({size / 1e6:,.1f} MB)?", abort=True)
    for name in chosen:
        store.remove(name)
        print(f"removed {name}")


def _ids(name: str, source: str = "") -> list[str]:
    """A task's name stands for its data set, a suite's for those of all its tasks, anything else for itself."""
    from backbench.benchmarks.plan import suites

    return suites.data_ids(name, source) or [name]


def _chosen(names: list[str] | None, source: str) -> list[str]:
    from backbench.benchmarks.data import store
    from backbench.errors import UserError

    chosen = list(dict.fromkeys(id_ for name in names for id_ in _ids(name, source))) if names else store.names()
    if not chosen:
        raise UserError(f"the store {store.root()} is empty; fill it: bench data make")
    return chosen
