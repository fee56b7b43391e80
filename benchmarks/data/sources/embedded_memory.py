"""Source ``embedded`` for the memory tasks: an oracle plays, with noise in two thirds of the episodes.

Everything is drawn as integers, so the bytes are equal on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments import memory
from backbench.errors import require

if TYPE_CHECKING:
    from backbench.benchmarks.environments.memory.script import MemoryTask

VERSION = 1  # part of the id: raise it when the data change
EPISODES = 1500
NOISE = (0, 3, 7)  # tenths of an episode's actions that are random, in turn
FIRST_SEED = 400_000_000  # of the environments; no evaluation starts there
TASKS = (
    "tmaze-24", "tmaze-96", "tmaze-256", "repeat-4", "repeat-16", "copy-12", "copy-32", "recall-8", "recall-32",
    "parity-24", "count-24",
)  # fmt: skip
LONG = "tmaze-1000"  # of suite memory-long; it has no twin
PATTERN = re.compile(rf"{memory.NAMESPACE}/memory/(?P<task>[a-z]+-\d+(-seen)?)-v{VERSION}")


def ids() -> list[str]:
    """The data sets of the suites."""
    names = [f"{task}{twin}" for task in TASKS for twin in ("", f"-{memory.SEEN}")]
    return [f"{memory.NAMESPACE}/memory/{name}-v{VERSION}" for name in (*names, LONG)]


def is_one(name: str) -> bool:
    """Whether ``name`` is the id of a data set of this module."""
    return name in ids()


def make(name: str) -> Trajectories:
    """Generate a data set and put it into the store."""
    env_id, kwargs, env = _environment(name)
    episodes = [play(env, number) for number in range(EPISODES)]
    origin = {
        "description": f"{env_id} with {kwargs}, played by its oracle",
        "algorithm": f"oracle, with {', '.join(f'{10 * tenths} %' for tenths in NOISE)} of random actions in turn",
        "licence": "MIT",
    }
    return store.write(name, episodes, env_id, origin, **kwargs)


def questions(name: str, numbers: Iterable[int]) -> NDArray[np.bool_]:
    """(episodes, T): the steps at which the episodes with these numbers ask."""
    *_, env = _environment(name)
    asked = []
    for number in numbers:
        env.reset(seed=FIRST_SEED + int(number))
        asked.append(env.asked)
    return np.stack(asked)


def _environment(name: str) -> tuple[str, dict[str, Any], MemoryTask]:
    """Id, arguments and environment of a data set."""
    import gymnasium

    from backbench.benchmarks.environments.memory.script import MemoryTask

    found = PATTERN.fullmatch(name)
    assert found, name
    memory.register()
    env_id, kwargs = memory.named(found["task"])
    env = gymnasium.make(env_id, **kwargs).unwrapped
    assert isinstance(env, MemoryTask)
    return env_id, kwargs, env


def ideal_losses(data: Trajectories, episodes: NDArray[np.int64]) -> dict[str, float]:
    """Loss of the ideal predictor, for each ``model.tokens``, on some ``episodes`` of a data set: the mean over steps
    of -log P(action | what the model sees), in nats, where windows hold their episode (``data.windows=episode``).

    The episodes are played again for the right answers. UserError if ``data`` are not a set of this module.
    """
    from backbench.benchmarks.environments.memory.ideal import LAYOUTS, ideal_loss

    require(is_one(data.name), f"data set {data.name!r}: the ideal loss is known for generated memory tasks alone")
    _, _, env = _environment(data.name)
    states = np.asarray(data.states)
    played = []
    for number in episodes.tolist():
        own = slice(data.offsets[number], data.offsets[number + 1])
        again, actions = play(env, number), data.actions[own]
        same = np.array_equal(again.actions, actions) and np.array_equal(again.observations[:-1], states[own])
        require(same, f"data set {data.name!r}: episode {number} is not the generated one; bench data make it again")
        played.append((env.script.answers, again.actions))
    noise = [tenths / 10 for tenths in NOISE]
    return {layout: ideal_loss(env, played, noise, layout) for layout in LAYOUTS}


def play(env: MemoryTask, number: int) -> Episode:
    """Episode ``number``. It depends only on the arguments and NumPy's generator."""
    noise, rng = NOISE[number % len(NOISE)], np.random.default_rng([FIRST_SEED, number])
    chance, random = rng.integers(10, size=env.steps), rng.integers(env.action_space.n, size=env.steps)
    observations, actions, rewards = [env.reset(seed=FIRST_SEED + number)[0]], [], []
    for tenth, action in zip(chance, random, strict=True):
        actions.append(action if tenth < noise else env.oracle)
        observation, reward, *_ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    return Episode(np.stack(observations), np.array(actions), np.array(rewards), True, FIRST_SEED + number)
