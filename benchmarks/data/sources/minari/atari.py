"""Farama's Atari expert sets, converted to the protocol's frames beside the originals.

The protocol's frame is the maximum over the last two of four frames. The originals hold only the last, as JPEG in part.
So objects that are drawn on every other screen are missing from some frames.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench import terminal
from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError, Report
from backbench.benchmarks.data.frames import FrameArray
from backbench.benchmarks.data.store import framestore, metadata
from backbench.benchmarks.data.store.episodes import Episodes, opened
from backbench.benchmarks.data.store.metadata import Metadata
from backbench.benchmarks.data.store.paths import reading
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.atari.screen import area_resize, grey_from_rgb

SCREEN = (210, 160, 3)
BLOCK = 64  # screens that are converted at a time
LONGEST = 30_000  # steps of an episode; the environments' limit is 27,000
FULL = 18  # actions of the console


def convert(game: str, report: Report = terminal.line) -> Trajectories:
    """Convert ``atari/<game>/expert-v0``, which Minari has put into the store, to ``minari/<game>/expert-v0``.

    Raises ``DataError`` if the original is missing, broken, or was not recorded as the protocol requires.
    """
    name = f"atari/{game}/expert-v0"
    if not store.exists(name):
        raise DataError(f"data set {name!r} is not in the store {store.root()}; get it: minari download {name}")
    about, count, kwargs = _about(name)
    numbers, n_actions = _game_actions(name, game, count)
    origin = {
        "source": "minari",
        "original": name,
        "environment": {key: kwargs[key] for key in sorted(kwargs) if isinstance(kwargs[key], (str, int, float))},
        "rewards": "raw",
        "frames": "one screen a step, no maximum over two: what flickers is missing from some",
        "description": f"{name} of the Farama Foundation, its screens turned into grey frames of 84 x 84",
        "licence": f"that of {name}",
        "citation": "Minari, Farama Foundation; policies by CleanRL",
    }
    with ExitStack() as stack:
        with reading(name, store.path_of(name)):
            original = stack.enter_context(opened(about, partial(_try, about)))
        made = _episodes(name, original, numbers, report)
        return framestore.write(f"minari/{game}/expert-v0", made, n_actions, origin)


def _about(name: str) -> tuple[Metadata, int, dict[str, Any]]:
    """The original's metadata, its number of actions, and the recorded arguments of its environment."""
    from gymnasium.spaces import Discrete

    with reading(name, store.path_of(name)):
        about = metadata.read(store.path_of(name) / "data")
        screens, actions = about.observations, about.actions
        found = about.specification().get("kwargs")
        kwargs = found if isinstance(found, dict) else {}
    if screens.shape != SCREEN or screens.dtype != np.uint8 or not isinstance(actions, Discrete) or actions.start != 0:
        expected = f"screens uint8 {SCREEN}, discrete actions"
        raise DataError(f"data set {name!r} has {screens} and {actions}; expected {expected}")
    skip = AtariProtocol().frame_skip
    if kwargs.get("frameskip", skip) != skip:
        raise DataError(f"data set {name!r} was recorded with frameskip={kwargs['frameskip']}; the protocol has {skip}")
    return about, int(actions.n), kwargs


def _game_actions(name: str, game: str, count: int) -> tuple[NDArray[np.int64], int]:
    """For each of the original's actions its number in the game's own set, or -1, and the size of that set."""
    from backbench.benchmarks.environments.atari.emulator import action_names

    ours = action_names(game, AtariProtocol())
    if count == len(ours):
        return np.arange(count), count
    if count != FULL:
        raise DataError(f"data set {name!r} has {count} actions; {game} has {len(ours)}, the console {FULL}")
    theirs = action_names(game, AtariProtocol(full_actions=True))
    return np.array([ours.index(action) if action in ours else -1 for action in theirs]), len(ours)


def _try(about: Metadata, original: Episodes) -> None:
    """Read all that ``_episodes`` reads, see ``trial``."""
    for number in range(about.episodes):
        for _ in original.pictures(number, SCREEN, BLOCK):
            pass
        _arrays(original, number)


def _arrays(original: Episodes, number: int) -> list[NDArray[Any]]:
    assert original.hdf5 is not None
    return [original.hdf5.array(f"episode_{number}", label) for label in ("actions", "rewards", "terminations")]


def _episodes(name: str, original: Episodes, numbers: NDArray[np.int64], report: Report) -> Iterator[Episode]:
    total = original.metadata.episodes
    for number in range(total):
        with reading(name, store.path_of(name)):
            frames = []
            for block in original.pictures(number, SCREEN, BLOCK):
                frames.append(to_frames(block))
                if len(frames) * BLOCK > LONGEST:
                    raise DataError(f"episode {number} has more than {LONGEST:,} steps")
            actions, rewards, ends = _arrays(original, number)
        ours = _in_game_set(name, number, actions, numbers)
        yield Episode(np.concatenate(frames), ours, rewards.astype(np.float64), bool(np.any(ends)))
        report(f"{name}: episode {number + 1} of {total}, {len(rewards):,} steps")


def _in_game_set(name: str, episode: int, actions: NDArray[Any], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    where = f"data set {name!r}: episode {episode}"
    if not np.issubdtype(actions.dtype, np.integer) or ((actions < 0) | (actions >= len(numbers))).any():
        raise DataError(f"{where} has actions outside 0 to {len(numbers) - 1}; {store.remedy(name)}")
    ours: NDArray[np.int64] = numbers[actions]
    if (ours < 0).any():
        step = int(np.argmax(ours < 0))
        lacks = "has no counterpart in the game's own set, so this data set cannot be used"
        raise DataError(f"{where}, step {step}: action {actions[step]} of the console's {FULL} {lacks}")
    return ours


def to_frames(screens: NDArray[np.uint8]) -> FrameArray:
    """Frames uint8 (n, 84, 84) from coloured screens uint8 (n, 210, 160, 3)."""
    return area_resize(grey_from_rgb(screens))
