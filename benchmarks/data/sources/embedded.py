"""Source ``embedded``: data sets that are played anew by the behaviour policies in the package. No network.

Here are the nine Gym sets; ``embedded_atari`` has the games'. The shape of each Gym set follows D4RL
(arXiv:2004.07219): *medium* is one policy at about a third of the expert's score; *medium-replay* a mixture over
snapshots of training; *medium-expert* half medium, half expert, by steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from backbench.benchmarks.data import store
from backbench.benchmarks.data.policies import gaussian
from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories
from backbench.benchmarks.environments.atari.protocol import GAMES
from backbench.benchmarks.environments.vector import make_environment
from backbench.errors import suggest

NAMESPACE = "backbench"
VERSION = 0  # raise it when the data would change: it is part of the name
STEPS = 50_000  # at least so many a data set
GAME_STEPS = 100_000  # of a game: with half as many, agents learn the episodes by heart
SLOTS = 20  # environments that are played side by side, one policy call for all
MIXTURES = {
    "medium": ("medium",),
    "medium-replay": ("replay0", "replay1", "replay2", "replay3", "replay4"),
    "medium-expert": ("medium", "expert"),
}
PATTERN = re.compile(rf"{NAMESPACE}/(?P<env>\w+)/(?P<mixture>[a-z-]+?)(-(?P<steps>\d+))?-v{VERSION}")
SEEDS = {"halfcheetah": 1, "hopper": 2, "walker2d": 3}
KINDS = {env: tuple(MIXTURES) for env in SEEDS} | dict.fromkeys(GAMES, ("replay",))


def names() -> list[str]:
    """The ids of the data sets that ``make`` can make."""
    return [f"{NAMESPACE}/{env}/{mixture}-v{VERSION}" for env, kinds in KINDS.items() for mixture in kinds]


def play(
    env_id: str, policy: gaussian.GaussianPolicy, noise: float, steps: int, limit: int, seed: int
) -> list[Episode]:
    """Whole episodes of at least ``steps`` steps in all, each of at most ``limit``.

    Episodes are seeded by their number and every one that was started is finished, so that long ones are not
    under-represented; the result depends on the arguments, the simulator's version and NumPy's only.
    """
    rng = np.random.default_rng([seed, 1])
    envs = [make_environment(env_id) for _ in range(SLOTS)]
    done: dict[int, Episode] = {}
    started = taken = 0
    slots: list[tuple[int, int, list[Any], list[Any], list[float]]] = []
    free = list(range(SLOTS))
    while True:
        while free and taken < steps:
            slot, number = free.pop(0), started
            obs, _ = envs[slot].reset(seed=_episode_seed(seed, number))
            slots.append((slot, number, [obs], [], []))
            started += 1
        if not slots:
            break
        actions = policy.act(np.stack([s[2][-1] for s in slots]), rng, noise)
        going = []
        for running, action in zip(slots, actions, strict=True):
            slot, number, observations, taken_actions, rewards = running
            obs, reward, terminated, _, _ = envs[slot].step(action)
            observations.append(obs)
            taken_actions.append(action)
            rewards.append(float(reward))
            taken += 1
            if terminated or len(rewards) == limit:
                done[number] = Episode(
                    np.stack(observations),
                    np.stack(taken_actions),
                    np.array(rewards),
                    bool(terminated),
                    _episode_seed(seed, number),
                )
                free.append(slot)
            else:
                going.append(running)
        slots = going
    for env in envs:
        env.close()
    return [done[number] for number in sorted(done)]


def _episode_seed(seed: int, number: int) -> int:
    return seed * 1_000_000 + number


def sized(name: str, steps: int) -> str:
    """The id of a set of another size than the usual one: ``backbench/hopper/medium-2000-v0``."""
    usual = GAME_STEPS if name.split("/")[1] in GAMES else STEPS
    return name if steps == usual else name.replace(f"-v{VERSION}", f"-{steps}-v{VERSION}")


@dataclass(frozen=True)
class Name:
    """The parts of an embedded data set's id."""

    id: str
    environment: str
    mixture: str
    steps: int


def parse(name: str) -> Name:
    """Raises ``DataError`` for what cannot be made."""
    found = PATTERN.fullmatch(name)
    if not found or found["mixture"] not in KINDS.get(found["env"], ()):
        raise DataError(f"data set '{name}' cannot be made{suggest(name, names())}")
    usual = GAME_STEPS if found["env"] in GAMES else STEPS
    return Name(name, found["env"], found["mixture"], int(found["steps"] or usual))


def make(name: str) -> Trajectories:
    """Make one data set by its id and put it into the store.

    The bits of a matrix product depend on the number of threads: ``make_all`` sees to there being one.
    """
    wanted = parse(name)
    env, steps = wanted.environment, wanted.steps
    if env in GAMES:
        from backbench.benchmarks.data.sources import (
            embedded_atari,  # needs the emulator, which the Gym sets do without
        )

        return embedded_atari.make(name, env, steps)
    card = gaussian.manifest()[env]
    episodes = []
    mixture = MIXTURES[wanted.mixture]
    for place, snapshot in enumerate(mixture):
        noise = card["snapshots"][snapshot]["noise"]
        seed = 100 * SEEDS[env] + 10 * list(MIXTURES).index(wanted.mixture) + place
        policy = gaussian.load(env, snapshot)
        episodes += play(card["env_id"], policy, noise, -(-steps // len(mixture)), 1000, seed)
    origin = {
        "description": f"{wanted.mixture} data of {card['env_id']}, played by Backbench's own behaviour policies",
        "algorithm": card["algorithm"],
        "policies": {s: card["snapshots"][s] for s in mixture},
        "licence": "MIT",
    }
    return store.write(name, episodes, card["env_id"], origin)
