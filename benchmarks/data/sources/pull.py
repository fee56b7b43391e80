"""``bench data pull``: published data sets, brought into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Progress, no_progress
from backbench.benchmarks.data.sources import d4rl
from backbench.benchmarks.data.sources.dqn_select import Choice
from backbench.benchmarks.data.trajectories import DataError
from backbench.benchmarks.environments.atari.protocol import GAMES
from backbench.benchmarks.plan import suites
from backbench.errors import suggest

SOURCES = ("d4rl", "dqn-replay", "minari")
FETCHED = ("d4rl", "minari")  # `bench run` brings these by itself
DEFAULT = {"d4rl": ("d4rl",), "dqn-replay": GAMES}  # where no name is given


def pull(
    source: str,
    names: Sequence[str],
    choice: Choice,
    location: str,
    keep: bool,
    force: bool,
    report: Callable[[str], None],
    progress: Progress = no_progress,
) -> Iterator[str]:
    """Bring a source's sets; those that are in the store stay unless ``force``.

    Args:
        source: one of ``SOURCES``.
        names: ids, tasks or suites; for ``dqn-replay`` games, as in ``GAMES``. None means ``DEFAULT``.
        choice: what to take of the logs; source ``dqn-replay`` only.
        location: folder or address, empty for the public one; not for ``minari``.
        keep: keep what is fetched beside what is made of it; not for ``minari``.
        force: bring what is there anew.
        report: gets a line now and then.
        progress: gets bytes done and bytes in all.

    Returns:
        The ids of the sets, each when it is in the store.

    Raises:
        DataError: an unknown source or name, an option that the source has not, or what the source raises.
    """
    if source not in SOURCES:
        raise DataError(f"data source '{source}' cannot be pulled{suggest(source, SOURCES)}")
    if source != "dqn-replay" and choice != Choice():
        raise DataError(f"source '{source}' has whole sets; what to select goes with source dqn-replay")
    if source == "minari" and (location or keep):
        raise DataError("source 'minari' is Minari's own remote; set MINARI_REMOTE for another one")
    if not names and source not in DEFAULT:
        raise DataError(
            f"source '{source}' has many sets; name some, a task or a suite: bench data list --source {source}"
        )
    if source != "dqn-replay":
        ids = list(dict.fromkeys(id_ for name in names or DEFAULT[source] for id_ in named(source, name)))
        return (_one(source, id_, location, keep, force, report, progress) for id_ in ids)
    games = list(dict.fromkeys(names or GAMES))
    for game in games:
        if game not in GAMES:
            raise DataError(f"no game '{game}'{suggest(game, GAMES)}")
    if location and len(games) > 1 and any(Path(location).expanduser().glob("$store$_*.gz")):
        raise DataError(f"--from {location} holds the files of one game; name the game")
    return (_replay(game, choice, location, keep, force, report) for game in games)


def named(source: str, name: str) -> list[str]:
    """The ids that a name stands for: an id itself, a task, a suite, a game of ``minari``, or ``hopper-expert``."""
    ids = suites.data_ids(name, source)
    if ids:
        return ids
    known = [task for suite in suites.built_in() for task in suites.names(suite) if suites.data_ids(task, source)]
    if source == "d4rl":
        short = {"-".join(id_.removesuffix("-v2").split("/")[1:]): id_ for id_ in d4rl.names()}
        if name in short:
            return [short[name]]
        if name in d4rl.names():
            return [name]
        known = list(short)
    elif "/" in name:
        return [name]
    raise DataError(f"source '{source}' has no data set, task or suite '{name}'{suggest(name, known)}")


def reach(source: str, name: str) -> None:
    """Raise ``DataError`` within two seconds if nobody answers where ``bring`` would fetch a set from."""
    if source == "d4rl":
        d4rl.reach(name)
    elif not name.startswith("minari/"):  # made of what Minari has downloaded
        from backbench.benchmarks.data.sources import minari_hub

        minari_hub.reach(name)


def bring(
    source: str,
    name: str,
    location: str = "",
    keep: bool = False,
    force: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> None:
    """Put one set of ``d4rl`` or ``minari`` into the store, under its id ``name``. DataError where it cannot be.

    One that Minari itself has put there is checked, and its hash noted, unless ``force``.
    """
    if source == "d4rl":
        d4rl.pull(name, location, keep, report, progress)
    elif name.startswith("minari/"):
        from backbench.benchmarks.data.sources import minari_atari

        minari_atari.pull(name.split("/")[1], report)
    else:
        from backbench.benchmarks.data.sources import minari_hub

        minari_hub.pull(name, report, force)


def _one(
    source: str, name: str, location: str, keep: bool, force: bool, report: Callable[[str], None], progress: Progress
) -> str:
    if store.exists(name) and not force and store.sidecar(name):
        report(f"{name} is in the store already; --force brings it anew")
    else:
        bring(source, name, location, keep, force, report, progress)
    return name


def _replay(game: str, choice: Choice, location: str, keep: bool, force: bool, report: Callable[[str], None]) -> str:
    from backbench.benchmarks.data.sources import dqn_replay

    name = choice.data_id(game)
    if store.exists(name) and not force:
        report(f"{name} is in the store already; --force brings it anew")
    else:
        dqn_replay.pull(game, choice, location or dqn_replay.PUBLIC, keep, report)
    return name


def summary(name: str) -> str:
    """A line about a set that was pulled."""
    noted = store.sidecar(name)
    return f"{name}: {noted['episodes']:,} episodes, {noted['steps']:,} steps, sha256 {noted['digest']}"
