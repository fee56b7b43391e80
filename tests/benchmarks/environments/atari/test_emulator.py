"""One game in Python: protocol, names, and what a mistake says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from ale_py import ALEInterface, roms

from backbench.benchmarks.environments.atari.emulator import Emulator, action_names
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol, game_of
from backbench.benchmarks.environments.atari.screen import area_resize
from backbench.errors import UserError

COUNTS = {"breakout": 4, "qbert": 6, "pong": 6, "seaquest": 18}


def test_protocol() -> None:
    protocol = AtariProtocol()
    assert protocol.max_steps == 27_000
    assert AtariProtocol(frame_skip=3, max_frames=100).max_steps == 33
    with pytest.raises(FrozenInstanceError):
        protocol.sticky = 0.25  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_skip": 0},
        {"noop_max": 0},
        {"sticky": 1.0},
        {"sticky": -0.1},
        {"sticky": float("nan")},
        {"max_frames": 3},
    ],
)
def test_protocols_that_cannot_be_played(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(UserError, match=f"atari.{name}=.*give"):
        AtariProtocol(**wrong)  # type: ignore[arg-type]


def test_noops_are_multiples_within_the_protocols_range() -> None:
    rng = np.random.default_rng(0)
    protocol = AtariProtocol()
    assert {protocol.draw_noops(rng) for _ in range(2000)} == set(range(1, 30))
    assert {protocol.draw_noops(rng, 4) for _ in range(500)} == {4, 8, 12, 16, 20, 24, 28}


def test_game_of() -> None:
    ids = ["ALE/Breakout-v5", "ALE/Qbert-v5", "ALE/Pong-v5", "ALE/Seaquest-v5"]
    assert [game_of(env_id) for env_id in ids] == list(GAMES)
    assert game_of("ALE/MsPacman-v5") == "ms_pacman"
    assert game_of("ALE/UpNDown-v5") == "up_n_down"
    assert game_of("seaquest") == "seaquest"
    with pytest.raises(UserError, match=r"unknown game 'ALE/Brekout-v5'; did you mean 'breakout'\?"):
        game_of("ALE/Brekout-v5")
    with pytest.raises(UserError, match="unknown game 'pongg'; did you mean 'pong'"):
        Emulator("pongg")


def test_without_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    for call in (lambda: game_of("ALE/Pong-v5"), lambda: Emulator("pong")):
        with pytest.raises(UserError, match="pip install ale-py"):
            call()


@pytest.mark.parametrize("game", GAMES)
def test_actions(game: str) -> None:
    minimal, full = AtariProtocol(), AtariProtocol(full_actions=True)
    names = action_names(game, minimal)
    assert len(names) == Emulator(game).n_actions == COUNTS[game]
    assert names[0] == "NOOP"
    assert len(set(action_names(game, full))) == Emulator(game, full).n_actions == 18
    assert set(names) <= set(action_names(game, full))
    assert action_names("breakout", minimal) == ("NOOP", "FIRE", "RIGHT", "LEFT")


@pytest.mark.parametrize("action", [-1, 4, 100])
def test_no_such_action(action: int) -> None:
    emulator = Emulator("breakout")
    emulator.reset(1)
    with pytest.raises(ValueError, match=f"action {action} is outside the game's set, 0 to 3"):
        emulator.step(action)


@pytest.mark.parametrize("protocol", [AtariProtocol(), AtariProtocol(max_pool=False, frame_skip=3)])
def test_frames_and_memory_are_of_the_same_moment(protocol: AtariProtocol) -> None:
    """Against the bare console: the frame of the last two screens, and the memory after the last of them."""
    emulator = Emulator("seaquest", protocol)
    emulator.reset(5)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path("seaquest"))
    ale.reset_game()
    for _ in range(5):
        ale.act(0)
    assert np.array_equal(emulator.frame(), area_resize(ale.getScreenGrayscale()[None])[0])
    assert emulator.lives == ale.lives() == 4
    rng, actions = np.random.default_rng(3), ale.getMinimalActionSet()
    flicker = 0
    for _ in range(100):
        action = int(rng.integers(18))
        reward, over = emulator.step(action)
        screens, expected = [], 0
        for _ in range(protocol.frame_skip):
            expected += ale.act(actions[action])
            screens.append(ale.getScreenGrayscale())
        shown = np.maximum(screens[-2], screens[-1]) if protocol.max_pool else screens[-1]
        flicker += not np.array_equal(screens[-1], screens[-2])
        assert (reward, over) == (expected, False)
        assert np.array_equal(emulator.frame(), area_resize(shown[None])[0])
        assert np.array_equal(emulator.ram(), ale.getRAM())
    assert flicker > 10


def test_rewards_are_raw_and_a_lost_life_may_end_an_episode() -> None:
    rng = np.random.default_rng(0)
    whole, lives = Emulator("qbert", pixels=False), Emulator("qbert", AtariProtocol(episodic_life=True), pixels=False)
    whole.reset(1)
    lives.reset(1)
    actions = rng.integers(6, size=600).tolist()
    rewards, ended = [], False
    for action in actions:
        before = whole.lives
        reward, over = whole.step(action)
        rewards.append(reward)
        if not ended:
            same, ended = lives.step(action)
            assert ended == (whole.lives < before)
            assert same == reward or ended
        if over:
            break
    assert over
    assert ended
    assert len(rewards) > 100
    assert max(rewards) >= 25
    whole.reset(1)
    assert whole.lives == 4
    assert [whole.step(action)[0] for action in actions[:50]] == rewards[:50], "a new game is not like the first"


def test_sticky_actions_are_drawn_from_the_seed() -> None:
    emulator = Emulator("breakout", AtariProtocol(sticky=0.25), pixels=False)

    def memories(seed: int) -> bytes:
        emulator.reset(1, seed)
        rng = np.random.default_rng(0)
        return b"".join((emulator.step(int(rng.integers(4))), emulator.ram().tobytes())[1] for _ in range(40))

    assert memories(1) == memories(1)
    assert memories(1) != memories(2)


def test_nothing_reaches_the_terminal() -> None:
    code = (
        "from backbench.benchmarks.environments.atari.kind import AtariBatch\n"
        "from backbench.benchmarks.environments.atari.emulator import Emulator\n"
        "e = Emulator('pong'); e.reset(1); e.step(0); b = AtariBatch('pong', 1); b.reset([1]); b.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
