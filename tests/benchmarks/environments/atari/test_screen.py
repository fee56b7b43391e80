"""Screens in NumPy: every bit as the emulator makes it, in grey and in small."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from ale_py import ALEInterface, roms
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.benchmarks.environments.atari.protocol import GAMES
from backbench.benchmarks.environments.atari.screen import area_resize, grey_from_rgb

COLOURFUL = (*GAMES, "enduro", "hero", "beam_rider", "krull", "solaris")  # 77 of the palette's 128 colours in all


def play(game: str, frames: int) -> Iterator[ALEInterface]:
    """Random play, a frame at a time; games that end begin anew."""
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    actions, rng = ale.getMinimalActionSet(), np.random.default_rng(0)
    for _ in range(frames):
        ale.act(actions[rng.integers(len(actions))])
        if ale.game_over():
            ale.reset_game()
        yield ale


def test_grey_is_the_emulators() -> None:
    colours: set[int] = set()
    for game in COLOURFUL:
        for number, ale in enumerate(play(game, 150)):
            if number % 30 == 0:
                rgb = ale.getScreenRGB()
                assert np.array_equal(grey_from_rgb(rgb), ale.getScreenGrayscale())
                colours |= set(np.unique(rgb @ np.array([1 << 16, 1 << 8, 1])).tolist())
    assert len(colours) >= 70


def test_grey_of_any_colour() -> None:
    rgb = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), axis=-1)
    exact = rgb[..., 0] * 0.2989 + rgb[..., 1] * 0.587 + rgb[..., 2] * 0.114
    assert np.abs(grey_from_rgb(rgb) - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("game", GAMES)
def test_small_frames_are_the_emulators(game: str) -> None:
    """One screen a step and no noise: what the vector environment shows is the emulator's screen, shrunk."""
    env = AtariVectorEnv(
        game, 1, num_threads=1, reward_clipping=False, frameskip=1, maxpool=False, stack_num=1,
        noop_max=1, use_fire_reset=False,
    )  # fmt: skip
    env.reset(seed=7)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    rng, actions = np.random.default_rng(1), ale.getMinimalActionSet()
    screens, shown = [], []
    for _ in range(150):
        action = int(rng.integers(len(actions)))
        states, *_ = env.step(np.array([action]))
        ale.act(actions[action])
        screens.append(ale.getScreenGrayscale())
        shown.append(states[0, 0].copy())
    assert np.array_equal(area_resize(np.stack(screens)), np.stack(shown))
    assert len(np.unique(np.stack(shown), axis=0)) > 20, "the game stood still"
    env.close()


def taps(old: int, new: int) -> list[list[tuple[int, np.float32]]]:
    """Which old pixels make a new one, with what weights: intervals on a line, written down naively."""
    scale, result = old / new, []
    for j in range(new):
        begin, end = j * scale, (j + 1) * scale
        row = []
        for i in range(math.floor(begin), min(math.ceil(end), old)):
            shared = min(end, i + 1) - max(begin, i)
            if shared > 1e-9:
                row.append((i, np.float32(shared / scale)))
        result.append(row)
    return result


def slowly(screen: np.ndarray) -> np.ndarray:
    """Single-precision sums along rows, then over rows, one new row or column at a time."""
    along = np.zeros((210, 84), dtype=np.float32)
    for x, row in enumerate(taps(160, 84)):
        for i, weight in row:
            along[:, x] += screen[:, i].astype(np.float32) * weight
    out = np.zeros((84, 84), dtype=np.float32)
    for y, row in enumerate(taps(210, 84)):
        for i, weight in row:
            out[y] += along[i] * weight
    return np.rint(out).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 256]), st.integers(1, 19))
def test_any_screen(seed: int, greys: int, count: int) -> None:
    """Few greys make many means that are exactly halfway between two: those hang on the order of the sums."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, greys)
    screens = palette[rng.integers(0, greys, (count, 210, 160))].astype(np.uint8)
    small = area_resize(screens)
    assert small.shape == (count, 84, 84)
    assert np.array_equal(small[-1], slowly(screens[-1]))
    assert np.array_equal(small[0], slowly(screens[0]))


def test_halfway_means_are_met() -> None:
    """The property above would be idle if no mean were halfway; in this screen hundreds are, and round both ways."""
    screen = np.random.default_rng(0).choice(np.array([0, 100], dtype=np.uint8), (210, 160))
    rows, columns = np.zeros((84, 210), dtype=int), np.zeros((84, 160), dtype=int)
    for y, row in enumerate(taps(210, 84)):
        rows[y, [i for i, _ in row]] = [round(float(w) * 5) for _, w in row]
    for x, row in enumerate(taps(160, 84)):
        columns[x, [i for i, _ in row]] = [round(float(w) * 40) for _, w in row]
    sums = rows @ screen @ columns.T
    halfway = sums % 200 == 100
    up = area_resize(screen[None])[0][halfway] - sums[halfway] // 200
    assert np.array_equal(area_resize(screen[None])[0][~halfway], (sums[~halfway] + 100) // 200)
    assert halfway.sum() > 100
    assert 0 < up.sum() < halfway.sum()


def test_flat_and_no_screens() -> None:
    for grey in (0, 1, 127, 255):
        assert (area_resize(np.full((1, 210, 160), grey, dtype=np.uint8)) == grey).all()
    assert area_resize(np.zeros((0, 210, 160), dtype=np.uint8)).shape == (0, 84, 84)


@pytest.mark.parametrize(
    "bad", [np.zeros((210, 160), np.uint8), np.zeros((1, 160, 210), np.uint8), np.zeros((1, 210, 160))]
)
def test_not_screens(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(n, 210, 160\)"):
        area_resize(bad)
    with pytest.raises(ValueError, match=r"expected uint8 \(\.\.\., 3\)"):
        grey_from_rgb(bad)
