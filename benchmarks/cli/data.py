"""``bench data``: list, make, pull, show, verify and remove data sets. Heavy imports happen inside the commands."""

import difflib
import sys
from typing import Annotated

import typer

from backbench import terminal
from backbench.benchmarks.data.sources import SOURCES
from backbench.errors import UserError, suggest
from backbench.text import plain

data_app = typer.Typer(help="Make or pull data sets, list, show, verify and remove them.", no_args_is_help=True)
Names = Annotated[list[str] | None, typer.Argument(help="Data sets in the store, tasks or suites; default: all.")]
Source = Annotated[str, typer.Option(help="Data source of the tasks and suites; default: the suite's.")]


@data_app.command("list")
def list_(source: Annotated[str, typer.Option(help=f"Only this source: {', '.join(SOURCES.names())}.")] = "") -> None:
    """List the data sets in the store, and those that can be made or pulled: size, licence, command."""
    from backbench.benchmarks.cli.data_show import listed, show_list

    _check_source(source)
    show_list([row for row in listed() if not source or row.source == source])


@data_app.command()
def make(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets, tasks or suites; default: those of d4rl.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace data sets that are in the store.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Number of processes; 0: one a core.")] = 0,
) -> None:
    """Make embedded data sets: the policies in the package play in the local simulator."""
    from backbench.benchmarks.cli.data_show import show
    from backbench.benchmarks.data import sources, store
    from backbench.benchmarks.data.sources.embedded import SOURCE
    from backbench.benchmarks.plan import suites
    from backbench.benchmarks.run import machine
    from backbench.benchmarks.run.sinks.terminal import progress_of

    ids = (id_ for name in names or ["d4rl"] for id_ in suites.data_ids(name, SOURCE.name) or [name])
    wanted = list(dict.fromkeys(ids))
    for id_ in wanted:
        SOURCE.check(id_)
    due = [id_ for id_ in wanted if force or not store.exists(id_)]
    if due:
        sources.make_all(due, jobs or machine.cores(), progress_of(due, terminal.console(), "made"))
    show(wanted, histogram=False)


# The parameters are the command's options, which Typer reads from the signature.
@data_app.command()
def pull(
    source: Annotated[str, typer.Argument(help="d4rl, minari or dqn-replay.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Tasks, suites or ids, such as hopper-medium; games for dqn-replay. Default: d4rl's nine."),
    ] = None,
    from_: Annotated[str, typer.Option("--from", help="Folder or address of the published files.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Keep downloaded files in the store's cache.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace data sets that are in the store.")] = False,
    transitions: Annotated[int, typer.Option(help="dqn-replay: least number of transitions to take.")] = 500_000,
    seed: Annotated[int, typer.Option(help="dqn-replay: seed of the choice of episodes.")] = 0,
    run: Annotated[int, typer.Option(help="dqn-replay: which of the five agents' logs.")] = 1,
    trajectories_per_buffer: Annotated[int, typer.Option(help="dqn-replay: episodes to take at a time.")] = 10,
    buffers: Annotated[int, typer.Option(help="dqn-replay: number of last buffers to take from.")] = 50,
) -> None:
    """Put published data into the store. Downloads resume and are verified; only complete data sets are kept."""
    from backbench.benchmarks.data import sources
    from backbench.benchmarks.data.sources.dqn_select import Choice
    from backbench.benchmarks.run.sinks.terminal import transfer

    choice = Choice(transitions, seed, run, trajectories_per_buffer, buffers)
    said = terminal.console(error=True)

    def report(line: str) -> None:
        terminal.say(said, line)

    with sources.leaving_on_sigterm(), transfer(said, "fetching") as progress:
        how = sources.Pull(from_, keep, force, choice, report, progress)
        for name in sources.pull(source, names or [], how, _of_suites(names or [], source)):
            terminal.line(sources.summary(name))


@data_app.command()
def show(names: Names = None, data: Source = "") -> None:
    """Show counts, returns and normalised scores; for named data sets also hash, histogram and findings."""
    from backbench.benchmarks.cli.data_show import show as show_

    show_(_chosen(names, data), histogram=bool(names))


@data_app.command()
def verify(names: Names = None, data: Source = "") -> None:
    """Check complete data sets: hash, counts, NaN, ends of episodes, recorded returns. Exits 1 if one is broken."""
    from backbench.benchmarks.cli.data_show import verify as verify_

    raise typer.Exit(0 if verify_(_chosen(names, data)) else 1)


@data_app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Data sets in the store, tasks or suites.")],
    data: Source = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove data sets from the store."""
    from backbench.benchmarks.data import store

    chosen = [name for name in _chosen(names, data) if store.exists(name)]
    if not chosen:
        raise UserError(f"none of {', '.join(names)} is in the store {store.root()}: bench data list")
    size = sum(store.size(name) for name in chosen)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{len(chosen)} data sets, {size / 1e6:,.1f} MB, would be removed; confirm with --yes")
        typer.confirm(f"Remove {plain(', '.join(chosen))} ({size / 1e6:,.1f} MB)?", abort=True)
    for name in chosen:
        store.remove(name)
        terminal.line(f"removed {name}")


def _check_source(source: str) -> None:
    if source and source not in SOURCES.names():
        raise UserError(f"unknown data source '{source}'{suggest(source, SOURCES.names())}")


def _of_suites(names: list[str], source: str) -> dict[str, list[str]]:
    """The ids with data of ``source`` that each suite or task stands for, ``names`` among them if they are files."""
    from backbench.benchmarks.plan import suites

    every = [*suites.built_in(), *(task for content in suites.tables() for task in content.tasks), *names]
    return {name: ids for name in every if (ids := suites.data_ids(name, source))}


def _chosen(names: list[str] | None, source: str) -> list[str]:
    """The ids that names of data sets, tasks and suites stand for. UserError for one that is close to a known name."""
    from backbench.benchmarks.cli.data_show import listed
    from backbench.benchmarks.data import store
    from backbench.benchmarks.plan import suites

    _check_source(source)
    chosen = [] if names else store.names()
    for name in names or []:
        ids = suites.data_ids(name, source)
        if not ids and name not in store.names():
            known = [row.name for row in listed()] + [*suites.suites(), *(t for s in suites.tables() for t in s.tasks)]
            close = [] if name in known else difflib.get_close_matches(name, known, n=1)
            if close:
                what = f"did you mean '{close[0]}'? If not, {store.remedy(name)}"
                raise UserError(f"data set {name!r} is not in the store {store.root()}; {what}")
        chosen += ids or [name]
    if not chosen:
        raise UserError(f"the store {store.root()} is empty; fill it: bench data make")
    return list(dict.fromkeys(chosen))
