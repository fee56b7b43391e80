"""Source ``embedded`` for Atari: *replay* is a mixture over snapshots of training, with different amounts of noise.

The best snapshot gives nearly half of the steps. Rewards are raw.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies import gaussian
from backbench.benchmarks.data.policies.ram import RamPolicy, load
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol

FIRST_SEED = {game: number * 1_000_000 for number, game in enumerate(GAMES, start=11)}  # plus the number of the episode


@dataclass(frozen=True)
class Part:
    """A part of the mixture: the policy, its noise, and its approximate share of the steps."""

    snapshot: str
    temperature: float
    epsilon: float
    share: float


# At temperature 1 actions are nearly random (0.8 to 1.2 nats) wherever they do not matter, which no imitator can learn.
# Without noise some games stop, such as Breakout until FIRE is pressed.
MIXTURE = (
    Part("replay0", 1.0, 0.0, 0.05),
    Part("replay1", 0.5, 0.02, 0.10),
    Part("replay2", 0.5, 0.02, 0.10),
    Part("replay3", 0.5, 0.02, 0.15),
    Part("replay4", 0.5, 0.02, 0.15),
    Part("expert", 0.5, 0.05, 0.15),
    Part("expert", 0.5, 0.01, 0.30),
)


def play(emulator: Emulator, policy: RamPolicy, part: Part, seed: int, unit: int = 1) -> Episode:
    """One complete episode. It depends only on the arguments and the versions of the emulator and NumPy."""
    rng = np.random.default_rng(seed)
    protocol = emulator.protocol
    emulator.reset(protocol.draw_noops(rng, unit), seed if protocol.sticky else None)
    frames, actions, rewards, over = [emulator.frame()], list[int](), list[float](), False
    while not over and len(rewards) < protocol.max_steps:
        action = int(policy.act(emulator.ram()[None], [rng], part.temperature, part.epsilon)[0])
        reward, over = emulator.step(action)
        frames.append(emulator.frame())
        actions.append(action)
        rewards.append(reward)
    return Episode(np.stack(frames), np.array(actions, dtype=np.int64), np.array(rewards), over, seed)


def episodes(
    game: str,
    steps: int,
    mixture: Sequence[Part] = MIXTURE,
    protocol: AtariProtocol | None = None,
    folder: Path = gaussian.PACK,
) -> Iterator[Episode]:
    """Complete episodes of at least ``steps`` steps in total, the weakest part first, with consecutive seeds.

    A part plays until all parts so far have their share. If an episode exceeds it, later parts are shorter or empty.
    """
    card = _card(game, folder)
    emulator = Emulator(game, protocol)
    taken = number = 0
    for part, until in zip(mixture, accumulate(part.share for part in mixture), strict=True):
        if taken >= round(until * steps):
            continue
        policy = load(game, part.snapshot, folder)
        if policy.n_actions != emulator.n_actions:
            differ = f"have {policy.n_actions} actions, the game has {emulator.n_actions}"
            raise DataError(f"the policies of {game!r} in {folder} {differ}; reinstall the package and ale-py")
        while taken < round(until * steps):
            episode = play(emulator, policy, part, FIRST_SEED[game] + number, card["noop_unit"])
            taken, number = taken + len(episode.rewards), number + 1
            yield episode


def make(
    name: str, game: str, steps: int, mixture: Sequence[Part] = MIXTURE, folder: Path = gaussian.PACK
) -> Trajectories:
    """Generate the data set ``name`` of at least ``steps`` steps and put it into the store."""
    card = _card(game, folder)
    emulator = Emulator(game, pixels=False)
    origin = {
        "description": f"replay data of {card['env_id']}, played by Backbench's own behaviour policies",
        "algorithm": card["algorithm"],
        "policies": card["snapshots"],
        "noop_unit": card["noop_unit"],
        "mixture": [vars(part) for part in mixture],
        "protocol": vars(emulator.protocol),
        "rewards": "raw",
        "licence": "MIT",
    }
    return framestore.write(name, episodes(game, steps, mixture, folder=folder), emulator.n_actions, origin)


def _card(game: str, folder: Path) -> dict[str, Any]:
    """What the manifest says about a game's policies."""
    card: dict[str, Any] | None = gaussian.manifest(folder).get(game)
    if card is None:
        raise DataError(f"no behaviour policies of {game!r} in {folder}; reinstall the package")
    return card
