"""Generated Atari data: complete episodes, the same bytes anywhere, and every step can be replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from ram_policies import made_up

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies import gaussian
from backbench.benchmarks.data.sources import embedded, embedded_atari
from backbench.benchmarks.data.sources.embedded_atari import MIXTURE, Part
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol

NAME = "backbench/breakout/replay-600-v1"
ACTIONS = {"breakout": 4, "qbert": 6, "pong": 6, "seaquest": 18}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A folder of made-up policies of Breakout."""
    folder = tmp_path / "pack"
    folder.mkdir()
    content = {}
    for number, snapshot in enumerate(sorted({part.snapshot for part in MIXTURE})):
        content |= {f"{snapshot}/{name}": array for name, array in made_up(4, number).items()}
    np.savez(folder / "breakout.npz", **content)
    card = {"env_id": "ALE/Breakout-v5", "algorithm": "dice", "noop_unit": 4, "snapshots": {}}
    (folder / "manifest.json").write_text(json.dumps({"breakout": card, "pong": {**card, "env_id": "ALE/Pong-v5"}}))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


MAKE = """
import sys
from pathlib import Path
from backbench.benchmarks.data.sources import embedded_atari
embedded_atari.make(sys.argv[1], "breakout", 600, folder=Path(sys.argv[2]))
assert "torch" not in sys.modules, "making data needs no torch"
"""


def test_made_twice_and_played_again(pack: Path, new_store: Path, tmp_path: Path) -> None:
    made = embedded_atari.make(NAME, "breakout", 600, folder=pack)
    assert store.read(NAME).digest == made.digest
    environment = os.environ | {"MINARI_DATASETS_PATH": str(tmp_path / "other"), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", MAKE, NAME, str(pack)], check=True, cwd=tmp_path, env=environment)
    ours, theirs = files(new_store), files(tmp_path / "other")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert any(name.endswith("main_data.hdf5") for name in ours)

    import minari

    dataset = minari.load_dataset(NAME)
    emulator = Emulator("breakout")
    assert dataset.total_steps == len(made.rewards) >= 600
    for episode in dataset.iterate_episodes():
        noops = AtariProtocol().draw_noops(np.random.default_rng(seed_of(new_store, episode.id)), 4)
        assert noops % 4 == 0
        emulator.reset(noops)
        assert np.array_equal(episode.observations[0], emulator.frame())
        for step, action in enumerate(episode.actions):
            reward, over = emulator.step(int(action))
            assert reward == episode.rewards[step]
            assert over == episode.terminations[step]
            assert np.array_equal(episode.observations[step + 1], emulator.frame())
        assert over

    # And in the vector environment, from a seed with as many frames without action.
    env = AtariVectorEnv("breakout", 1, num_threads=1, reward_clipping=False, use_fire_reset=False)
    episode = dataset[0]
    wanted = AtariProtocol().draw_noops(np.random.default_rng(seed_of(new_store, 0)), 4)
    for seed in range(1, 500):
        states, info = env.reset(seed=np.array([seed]))
        if info["episode_frame_number"][0] == wanted:
            break
    assert np.array_equal(states[0, -1], episode.observations[0])
    for step, action in enumerate(episode.actions):
        states, rewards, ended, *_ = env.step(np.array([action]))
        assert (rewards[0], ended[0]) == (episode.rewards[step], episode.terminations[step])
        assert np.array_equal(states[0, -1], episode.observations[step + 1])
    env.close()


def seed_of(folder: Path, number: int) -> int:
    import h5py

    with h5py.File(folder / NAME / "data" / "main_data.hdf5", "r") as file:
        return int(file[f"episode_{number}"].attrs["seed"])


def test_parts_follow_one_another_by_their_shares(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part begins when the ones before have their share, and its last episode is whole."""
    order: list[tuple[Part, int]] = []
    real = embedded_atari.play

    def noting(emulator: Any, policy: Any, part: Part, *rest: Any) -> Any:
        episode = real(emulator, policy, part, *rest)
        order.append((part, len(episode.rewards)))
        return episode

    monkeypatch.setattr(embedded_atari, "play", noting)
    made = list(embedded_atari.episodes("breakout", 2000, folder=pack))
    lengths = [length for _, length in order]
    assert [len(e.rewards) for e in made] == lengths
    assert sum(lengths[:-1]) < 2000 <= sum(lengths)
    until = np.cumsum([part.share for part in MIXTURE])
    begun = np.cumsum([0, *lengths[:-1]])
    for (part, _), before in zip(order, begun, strict=True):
        place = MIXTURE.index(part)
        assert before < until[place] * 2000
        assert place == 0 or before >= until[place - 1] * 2000
    places = [MIXTURE.index(part) for part, _ in order]
    assert all(a <= b for a, b in pairwise(places))
    assert len({e.seed for e in made}) == len(made)


def test_the_mixture_is_as_declared() -> None:
    assert sum(part.share for part in MIXTURE) == pytest.approx(1)
    assert sum(part.share for part in MIXTURE if part.snapshot == "expert") >= 1 / 3
    ranges = [(first, first + 999_999) for first in embedded_atari.FIRST_SEED.values()]
    assert set(embedded_atari.FIRST_SEED) == set(GAMES)
    assert all(a[1] < b[0] for a, b in pairwise(sorted(ranges)))


def test_long_episodes_are_truncated(pack: Path) -> None:
    """At the protocol's cap, and not as if the game had been over."""
    protocol = AtariProtocol(max_frames=80)
    made = list(embedded_atari.episodes("breakout", 50, protocol=protocol, folder=pack))
    assert [len(e.rewards) for e in made] == [20, 20, 20]
    assert not any(e.terminated for e in made)
    assert all(e.observations.shape == (21, 84, 84) for e in made)


def test_no_more_than_one_episode_is_played_ahead(pack: Path) -> None:
    episodes = embedded_atari.episodes("breakout", 10**9, folder=pack)
    assert next(episodes).seed == embedded_atari.FIRST_SEED["breakout"]
    assert next(episodes).seed == embedded_atari.FIRST_SEED["breakout"] + 1


def test_games_without_policies_are_refused(pack: Path, new_store: Path) -> None:
    with pytest.raises(DataError, match="no behaviour policies of 'qbert'"):
        embedded_atari.make("backbench/qbert/replay-10-v1", "qbert", 10, folder=pack)
    os.rename(pack / "breakout.npz", pack / "pong.npz")
    with pytest.raises(DataError, match="have 4 actions, the game has 6"):
        embedded_atari.make("backbench/pong/replay-10-v1", "pong", 10, folder=pack)
    assert files(new_store) == {}


def test_every_game_has_an_id() -> None:
    for game in GAMES:
        name = f"backbench/{game}/replay-v1"
        assert name in embedded.SOURCE.ids()
        assert embedded.parse(name) == embedded.Name(name, game, "replay", 100_000)
        small = embedded.SOURCE.sized(name, 2000)
        assert small == f"backbench/{game}/replay-2000-v1"
        assert embedded.parse(small).steps == 2000
    for wrong in ("backbench/breakout/medium-v1", "backbench/hopper/replay-v1", "backbench/brekout/replay-v1"):
        with pytest.raises(DataError, match=f"data set '{wrong}' cannot be made"):
            embedded.parse(wrong)


def test_embedded_makes_atari_sets(pack: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(embedded_atari, "make", lambda *words: asked.append(words))
    embedded.make("backbench/seaquest/replay-300-v1")
    assert asked == [("backbench/seaquest/replay-300-v1", "seaquest", 300)]


PACKED = [game for game in GAMES if (gaussian.PACK / f"{game}.npz").is_file()]


@pytest.mark.parametrize("game", PACKED)
def test_the_pack_has_a_policy_for_every_part(game: str) -> None:
    card = gaussian.manifest()[game]
    wanted = {part.snapshot for part in MIXTURE}
    assert set(card["snapshots"]) == wanted
    with np.load(gaussian.PACK / f"{game}.npz", allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
        assert {name.split("/")[0] for name in file.files} == wanted
    for snapshot, row in card["snapshots"].items():
        policy = embedded_atari.load(game, snapshot)
        assert policy.n_actions == ACTIONS[game]
        assert all(np.isfinite(array).all() for array in policy.arrays.values())
        noises = [(part.temperature, part.epsilon) for part in MIXTURE if part.snapshot == snapshot]
        assert [(p["temperature"], p["epsilon"]) for p in row["plays"]] == noises
    means = [card["snapshots"][s]["plays"][-1]["return_mean"] for s in ("replay0", "replay2", "expert")]
    assert means == sorted(means)
