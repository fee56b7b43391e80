"""``bench data pull``: published data sets of pixels, brought into the store in the protocol's form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backbench.backbones.errors import suggest
from backbench.benchmarks.atari.protocol import GAMES
from backbench.benchmarks.data import store
from backbench.benchmarks.data.dqn_select import Choice
from backbench.benchmarks.data.trajectories import DataError

SOURCES = ("dqn-replay", "minari")


def pull(
    source: str,
    games: Sequence[str],
    choice: Choice,
    location: str,
    keep: bool,
    force: bool,
    report: Callable[[str], None],
) -> Iterator[str]:
    """Bring a source's sets of some games, or of all four; those that are in the store stay unless ``force``.

    Args:
        source: one of ``SOURCES``.
        games: names as in ``GAMES``; none means all.
        choice: what to take of the logs; source ``dqn-replay`` only.
        location: folder or address of the logs, empty for the public one; source ``dqn-replay`` only.
        keep: keep what is fetched of the logs; source ``dqn-replay`` only.
        force: bring what is there anew.
        report: gets a line now and then.

    Returns:
        The ids of the sets, each when it is in the store.

    Raises:
        DataError: an unknown source or game, an option that the source has not, or what the source raises.
    """
    if source not in SOURCES:
        raise DataError(f"data source '{source}' cannot be pulled{suggest(source, SOURCES)}")
    chosen = list(dict.fromkeys(games or GAMES))
    for game in chosen:
        if game not in GAMES:
            raise DataError(f"no game '{game}'{suggest(game, GAMES)}")
    if source == "minari" and (location or keep or choice != Choice()):
        raise DataError("source 'minari' takes whole sets from the store; it has no option but --force")
    if location and len(chosen) > 1 and any(Path(location).expanduser().glob("$store$_*.gz")):
        raise DataError(f"--from {location} holds the files of one game; name the game")
    return (_pull(source, game, choice, location, keep, force, report) for game in chosen)


def _pull(
    source: str, game: str, choice: Choice, location: str, keep: bool, force: bool, report: Callable[[str], None]
) -> str:
    name = choice.data_id(game) if source == "dqn-replay" else f"minari/{game}/expert-v0"
    if store.exists(name) and not force:
        report(f"{name} is in the store already; --force brings it anew")
    elif source == "dqn-replay":
        from backbench.benchmarks.data import dqn_replay

        dqn_replay.pull(game, choice, location or dqn_replay.PUBLIC, keep, report)
    else:
        from backbench.benchmarks.data import minari_atari

        minari_atari.pull(game, report)
    return name


def summary(name: str) -> str:
    """A line about a set that was pulled."""
    noted = store.sidecar(name)
    return f"{name}: {noted['episodes']:,} episodes, {noted['steps']:,} steps, sha256 {noted['digest']}"
