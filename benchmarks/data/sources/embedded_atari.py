"""Source ``embedded`` for Atari games: played anew by the behaviour policies in the package. No network.

*replay* is a mixture over snapshots of training, from an untrained one to the best, with more or less noise; the best
one gives nearly half of the steps. Rewards are raw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from backbench.benchmarks.data.frames import FrameArray
from backbench.benchmarks.data.policies import gaussian
from backbench.benchmarks.data.policies.ram import RamPolicy, load
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol

FIRST_SEED = {game: number * 1_000_000 for number, game in enumerate(GAMES, start=11)}  # an episode adds its number


@dataclass(frozen=True)
class Part:
    """A part of the mixture: who plays, how noisily, and which share of the steps, about."""

    snapshot: str
    temperature: float
    epsilon: float
    share: float


# At temperature 1 the policies' actions are near to random wherever they do not matter (0.8 to 1.2 nats), which no
# imitator can learn; without any noise some games come to a standstill, such as Breakout's before FIRE is pressed.
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
    """One whole episode; it depends on the arguments, the emulator's version and NumPy's only.

    ``seed`` decides the frames without action at the start, a multiple of ``unit``, and the policy's draws; with
    sticky actions those as well.
    """
    rng = np.random.default_rng(seed)
    protocol = emulator.protocol
    emulator.reset(protocol.draw_noops(rng, unit), seed if protocol.sticky else None)
    frames: list[FrameArray] = [emulator.frame()]
    actions: list[int] = []
    rewards: list[float] = []
    over = False
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
    """Whole episodes of at least ``steps`` steps in all, the weakest part first, numbered seeds.

    A part is played until all parts so far have their share: what one episode has too many, the next parts have too
    few, and in a small set some have none.

    Raises:
        DataError: no policies of that game, or policies of another set of actions.
    """
    card = gaussian.manifest(folder).get(game)
    if card is None:
        raise DataError(f"no behaviour policies of {game!r} in {folder}; install the package anew")
    emulator = Emulator(game, protocol)
    taken = number = 0
    for part, until in zip(mixture, accumulate(part.share for part in mixture), strict=True):
        if taken >= round(until * steps):
            continue
        policy = load(game, part.snapshot, folder)
        if policy.n_actions != emulator.n_actions:
            raise DataError(
                f"the policies of {game!r} in {folder} know {policy.n_actions} actions, the game has "
                f"{emulator.n_actions}; install the package and ale-py anew"
            )
        while taken < round(until * steps):
            episode = play(emulator, policy, part, FIRST_SEED[game] + number, card["noop_unit"])
            taken, number = taken + len(episode.rewards), number + 1
            yield episode


def make(
    name: str, game: str, steps: int, mixture: Sequence[Part] = MIXTURE, folder: Path = gaussian.PACK
) -> Trajectories:
    """Make the data set ``name`` of at least ``steps`` steps and put it into the store.

    Raises:
        DataError: no policies of that game, or a store that cannot be written.
    """
    card = gaussian.manifest(folder).get(game)
    if card is None:
        raise DataError(f"no behaviour policies of {game!r} in {folder}; install the package anew")
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
