"""Episodes side by side: the same bits every time, and the same as the emulator in Python makes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.kind import AtariBatch, usable_seed
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol
from backbench.errors import UserError


@pytest.fixture(scope="module")
def breakout() -> Iterator[AtariBatch]:
    batch = AtariBatch("breakout", 3)
    yield batch
    batch.close()


@given(st.integers(0, 2**32 - 1))
def test_seeds_are_usable(seed: int) -> None:
    usable = usable_seed(seed)
    assert 1 <= usable <= 2**31 - 1
    assert usable == seed or seed == 0 or seed >= 2**31
    assert (usable - seed) % (2**31 - 1) == 0


def played(batch: AtariBatch, seeds: list[int], steps: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    states, rewards = [batch.reset(seeds)], []
    for _ in range(steps):
        state, reward, ended = batch.step(range(3), rng.integers(batch.n_actions, size=3))
        states.append(state)
        rewards.append(reward)
        assert not ended.any()
    return np.stack(states), np.stack(rewards)


def test_the_same_seeds_and_actions_give_the_same_bits(breakout: AtariBatch) -> None:
    seeds = [0, 2**32 - 1, 77]
    states, rewards = played(breakout, seeds, 40)
    again, rewards_again = played(breakout, seeds, 40)
    other, _ = played(breakout, [1, 2, 3], 40)
    assert states.dtype == np.uint8
    assert rewards.dtype == np.float64
    assert states.shape == (41, 3, 4, 84, 84)
    assert np.array_equal(states, again)
    assert np.array_equal(rewards, rewards_again)
    assert not np.array_equal(states, other)


def test_states_are_the_last_four_frames(breakout: AtariBatch) -> None:
    """Before the first frame there is that frame, as in the data sets."""
    states, _ = played(breakout, [5, 6, 7], 8)
    frames = np.concatenate([states[:1, :, 3]] * 3 + [states[:, :, 3]])
    for step in range(9):
        assert np.array_equal(states[step], frames[step : step + 4].swapaxes(0, 1))


@pytest.mark.parametrize("stack", [1, 2, 5])
def test_a_state_has_as_many_frames_as_the_protocol_says(stack: int, breakout: AtariBatch) -> None:
    four, _ = played(breakout, [5, 6, 7], 8)
    batch = AtariBatch("breakout", 3, AtariProtocol(stack=stack))
    states, _ = played(batch, [5, 6, 7], 8)
    batch.close()
    assert states.shape == (9, 3, stack, 84, 84)
    frames = np.concatenate([four[:1, :, 3]] * (stack - 1) + [four[:, :, 3]])
    for step in range(9):
        assert np.array_equal(states[step], frames[step : step + stack].swapaxes(0, 1))


def test_only_the_named_episodes_are_played(breakout: AtariBatch) -> None:
    breakout.reset([5, 6, 7])
    fire, left = 1, 3
    alone = [breakout.step([1], np.array([action]))[0][0] for action in (fire, *[left] * 10)]
    third, *_ = breakout.step([2, 0], np.array([fire, fire]))
    breakout.reset([5, 6, 7])
    together = [breakout.step([0, 1, 2], np.array([action] * 3))[0] for action in (fire, *[left] * 10)]
    assert np.array_equal(np.stack(alone), np.stack(together)[:, 1])
    assert np.array_equal(third, together[0][[2, 0]])


@pytest.mark.parametrize("actions", [[0, 4], [-1, 0], [0, 255]])
def test_no_such_action(breakout: AtariBatch, actions: list[int]) -> None:
    breakout.reset([1, 2, 3])
    wrong = next(a for a in actions if not 0 <= a < 4)
    with pytest.raises(ValueError, match=f"action {wrong} is outside the game's set, 0 to 3"):
        breakout.step([0, 1], np.array(actions))
    with pytest.raises(ValueError, match="1 episodes"):
        breakout.step([0], np.array([1, 1]))
    with pytest.raises(ValueError, match="2 seeds for 3 episodes"):
        breakout.reset([1, 2])


def test_no_such_game() -> None:
    with pytest.raises(UserError, match="unknown game 'brekout'; did you mean 'breakout'"):
        AtariBatch("brekout", 1)


# Over a whole episode the end is met as well; Pong's takes too long for every day.
EPISODES = [
    ("breakout", AtariProtocol(), 3000),
    ("qbert", AtariProtocol(), 3000),
    ("pong", AtariProtocol(), 150),
    ("seaquest", AtariProtocol(), 3000),
    ("seaquest", AtariProtocol(sticky=0.25), 100),
    ("seaquest", AtariProtocol(episodic_life=True), 3000),
    ("breakout", AtariProtocol(fire_reset=True), 60),
    ("breakout", AtariProtocol(full_actions=True, max_pool=False, frame_skip=3), 60),
]


def agree(game: str, protocol: AtariProtocol, seed: int, steps: int) -> bool:
    """Random play of one episode in both, compared step by step; whether it ended."""
    batch, emulator = AtariBatch(game, 1, protocol), Emulator(game, protocol)
    _, info = batch._envs[0].reset(seed=np.array([seed]))
    emulator.reset(int(info["episode_frame_number"][0]), seed if protocol.sticky else None)
    assert np.array_equal(batch.reset([seed])[0, -1], emulator.frame())
    assert batch.n_actions == emulator.n_actions
    rng, over = np.random.default_rng(seed), False
    for step in range(steps):
        action = int(rng.integers(emulator.n_actions))
        states, rewards, ended = batch.step([0], np.array([action]))
        reward, over = emulator.step(action)
        assert (reward, over) == (rewards[0], ended[0]), step
        assert np.array_equal(states[0, -1], emulator.frame()), step
        if over:
            break
    batch.close()
    return over


@pytest.mark.parametrize(("game", "protocol", "steps"), EPISODES)
def test_equal_to_the_emulator_in_python(game: str, protocol: AtariProtocol, steps: int) -> None:
    assert agree(game, protocol, 5, steps) == (steps == 3000)


@pytest.mark.slow  # a quarter of an hour of play
@pytest.mark.parametrize("game", GAMES)
def test_equal_over_many_episodes(game: str) -> None:
    for seed in range(1, 11):
        assert agree(game, AtariProtocol(), seed, 27_000)


def test_noops_of_the_vector_environment(breakout: AtariBatch) -> None:
    """0 to 29 frames, whatever its documentation says."""
    env = breakout._envs[0]
    counts = [int(env.reset(seed=np.array([seed]))[1]["episode_frame_number"][0]) for seed in (9, 4, 5)]
    assert counts == [0, 29, 6]
