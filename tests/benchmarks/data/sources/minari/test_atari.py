"""Farama's Atari sets in the protocol's form: the same play, grey and small."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.data.sources.minari import atari as minari_atari

pytest.importorskip("ale_py")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari misses an author, and more

NAME, ORIGINAL = "minari/breakout/expert-v0", "atari/breakout/expert-v0"


def quiet(line: str) -> None:
    pass


def play(game: str, steps: int, seed: int) -> tuple[Any, list[int], list[float]]:
    """Screens in colour (steps + 1, 210, 160, 3) and actions of random play, four frames a step; made-up rewards."""
    import ale_py
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    actions, rng = ale.getMinimalActionSet(), np.random.default_rng(seed)
    screens, taken = [ale.getScreenRGB()], []
    for _ in range(steps):
        taken.append(int(rng.integers(len(actions))))
        for _ in range(4):
            ale.act(actions[taken[-1]])
        screens.append(ale.getScreenRGB())
    return np.stack(screens), taken, rng.choice([0.0, 1.0, 7.0, -50.0], steps).tolist()


def record(
    episodes: Sequence[tuple[Any, Any, Any]], n_actions: int = 4, jpeg: bool = False, spec: dict[str, Any] | None = None
) -> None:
    """Write an original as Minari does; every second episode is ended by time."""
    import minari
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.spaces import Box, Discrete
    from minari.data_collector import EpisodeBuffer

    buffers = []
    for number, (screens, actions, rewards) in enumerate(episodes):
        ended = np.arange(len(rewards)) == len(rewards) - 1
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=screens,
                actions=np.array(actions, np.int64),
                rewards=np.array(rewards, np.float64),
                terminations=ended & (number % 2 == 0),
                truncations=ended & (number % 2 == 1),
            )
        )
    minari.create_dataset_from_buffers(
        ORIGINAL,
        buffers,
        env=None
        if spec is None
        else EnvSpec("ALE/Breakout-v5", entry_point="ale_py.env:AtariEnv", kwargs={"game": "breakout", **spec}),
        observation_space=Box(0, 255, screens.shape[1:], np.uint8),
        action_space=Discrete(n_actions),
        jpeg_encoding=jpeg,
    )


@pytest.fixture(scope="module")
def played() -> list[tuple[Any, list[int], list[float]]]:
    return [play("breakout", 70, 0), play("breakout", 5, 1), play("breakout", 12, 2)]


@pytest.fixture(autouse=True)
def _store(new_store: Path) -> None:
    new_store.mkdir()


def area_mean(screen: Any) -> Any:
    """The mean of each of 84 x 84 areas of a screen (210, 160), from the screen laid out in equal small parts."""
    parts = np.repeat(np.repeat(screen.astype(np.float64), 2, axis=0), 21, axis=1)  # 420 x 3360
    return parts.reshape(84, 5, 84, 40).mean(axis=(1, 3))


def frames_of(data: Any, episode: int) -> Any:
    assert isinstance(data.states, Frames)
    out = np.empty((int(data.lengths[episode]) + 1, 84, 84), np.uint8)
    data.states.read(int(data.offsets[episode]) + episode, out)
    return out


def grey(screens: Any) -> Any:
    """Luminance, in floating point."""
    return screens.astype(np.float64) @ [0.2989, 0.5870, 0.1140]


@pytest.mark.parametrize("jpeg", [False, True])
def test_the_converted_set_is_the_same_play(played: list[Any], jpeg: bool) -> None:
    import minari

    record(played, jpeg=jpeg, spec={"frameskip": 4, "repeat_action_probability": 0, "full_action_space": False})
    lines: list[str] = []
    minari_atari.convert("breakout", lines.append)
    data = store.read(NAME)
    assert data.lengths.tolist() == [70, 5, 12]
    assert data.actions.tolist() == [a for _, actions, _ in played for a in actions]
    assert data.rewards.tolist() == [r for _, _, rewards in played for r in rewards]
    assert np.abs(data.rewards).max() == 50, "rewards are not clipped"
    assert data.terminated.tolist() == [True, False, True]
    assert (data.n_actions, data.rewards_clipped) == (4, False)
    shown = [e.observations for e in minari.load_dataset(ORIGINAL).iterate_episodes()]  # the original is there still
    for episode, screens in enumerate(shown):
        assert np.array_equal(screens, played[episode][0]) == (not jpeg)
        expected = np.stack([area_mean(np.rint(grey(s))) for s in screens])
        assert np.abs(frames_of(data, episode) - expected).max() <= 0.501
    assert lines == [f"{ORIGINAL}: episode {i + 1} of 3, {n} steps" for i, n in enumerate((70, 5, 12))]
    origin = store.sidecar(NAME)["origin"]
    assert origin["rewards"] == "raw"
    assert origin["original"] == ORIGINAL
    assert "no maximum over two" in origin["frames"]
    assert origin["environment"].items() >= {"frameskip": 4, "full_action_space": False}.items()


def test_converting_twice_gives_the_same_hash(played: list[Any]) -> None:
    record(played)
    digest = minari_atari.convert("breakout", quiet).digest
    assert minari_atari.convert("breakout", quiet).digest == digest == store.read(NAME).digest


def test_frames_equal_the_emulators_without_the_maximum(played: list[Any]) -> None:
    """Against the emulator itself, told not to take the maximum."""
    from backbench.benchmarks.environments.atari.emulator import Emulator
    from backbench.benchmarks.environments.atari.protocol import AtariProtocol

    screens, actions, _ = played[0]
    emulator = Emulator("breakout", AtariProtocol(max_pool=False))
    emulator.reset(0)
    frames = minari_atari.to_frames(screens)
    assert np.array_equal(frames[0], emulator.frame())
    for frame, action in zip(frames[1:], actions, strict=True):
        emulator.step(action)
        assert np.array_equal(frame, emulator.frame())


def test_actions_of_the_console_become_the_games(played: list[Any]) -> None:
    """NOOP, FIRE, RIGHT and LEFT are 0, 1, 3 and 4 of 18, and Breakout's own 0 to 3."""
    screens, _, rewards = played[1]
    record([(screens, [0, 1, 3, 4, 1], rewards)], n_actions=18)
    assert minari_atari.convert("breakout", quiet).actions.tolist() == [0, 1, 2, 3, 1]
    assert store.sidecar(NAME)["origin"]["n_actions"] == 4


def test_an_action_without_a_counterpart_is_refused(played: list[Any]) -> None:
    screens, _, rewards = played[1]
    record([(screens, [0, 1, 3, 5, 1], rewards)], n_actions=18)
    with pytest.raises(DataError, match=r"episode 0, step 3: action 5 of the console's 18 has no counterpart"):
        minari_atari.convert("breakout", quiet)
    assert store.names() == [ORIGINAL]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_actions": 6}, "has 6 actions; breakout has 4, the console 18"),
        ({"spec": {"frameskip": 1}}, "recorded with frameskip=1; the protocol has 4"),
    ],
)
def test_other_recordings_are_refused(played: list[Any], changes: dict[str, Any], said: str) -> None:
    record(played[1:2], **changes)
    with pytest.raises(DataError, match=said):
        minari_atari.convert("breakout", quiet)
    assert store.names() == [ORIGINAL]


def test_screens_of_another_shape_are_refused(played: list[Any]) -> None:
    screens, actions, rewards = played[1]
    record([(screens[:, :84, :84], actions, rewards)])
    with pytest.raises(DataError, match=r"expected screens uint8 \(210, 160, 3\)"):
        minari_atari.convert("breakout", quiet)


def test_an_absent_original_names_the_command(new_store: Path) -> None:
    with pytest.raises(DataError, match="minari download atari/seaquest/expert-v0") as caught:
        minari_atari.convert("seaquest", quiet)
    assert str(new_store) in str(caught.value)


def truncate(folder: Path) -> None:
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def outside(folder: Path) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/actions"][2] = 4


def lost(folder: Path) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_2"]


def no_picture(folder: Path) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        file["episode_0/observations"][7] = np.zeros(30, np.uint8)


def garbled(folder: Path) -> None:
    (folder / "data" / "metadata.json").write_text("{")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "cannot be read"),
    "action": (outside, "episode 1 has actions outside 0 to 3"),
    "lost episode": (lost, "has no 'episode_2'"),
    "no picture": (no_picture, "cannot be read"),
    "metadata": (garbled, "JSON that ends too early"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_broken_is_named(played: list[Any], new_store: Path, fault: str) -> None:
    record(played, jpeg=True)
    break_it, said = FAULTS[fault]
    break_it(new_store / ORIGINAL)
    with pytest.raises(DataError, match=said) as caught:
        minari_atari.convert("breakout", quiet)
    message = str(caught.value)
    assert message.endswith(f"get it again: minari delete {ORIGINAL}, then minari download {ORIGINAL}")
    assert "\n" not in message
    assert store.names() == [ORIGINAL]
    assert [p.name for p in new_store.iterdir() if p.name.startswith(".")] == []


def test_the_command_converts_and_prints_the_set(played: list[Any], bench: Callable[..., Any]) -> None:
    record(played)
    ran = bench("data", "pull", "minari", "breakout")
    assert ran.code == 0, ran.err
    noted = json.loads((store.path_of(NAME) / store.SIDECAR).read_text())
    assert ran.out == f"{NAME}: 3 episodes, 87 steps, sha256 {noted['digest']}\n"
    missing = bench("data", "pull", "minari", "pong")
    assert missing.code == 2
    assert "get it: minari download atari/pong/expert-v0" in missing.err
    assert len(missing.err.splitlines()) == 1
