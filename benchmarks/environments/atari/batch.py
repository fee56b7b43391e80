"""A batch of episodes of one Atari game, for evaluation, with the emulator's own vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.atari.emulator import action_names
from backbench.benchmarks.environments.atari.protocol import STACK, AtariProtocol

SEEDS = 2**31 - 1  # the emulator's largest seed; it ignores seeds below 1


def usable_seed(seed: int) -> int:
    """Any integer as a seed that the emulator accepts, 1 to 2**31 - 1; seeds in that range stay."""
    return (seed - 1) % SEEDS + 1


class AtariBatch:
    """``count`` episodes, each in its own environment, so that finished ones can stop.

    Attributes:
        n_actions: number of discrete actions.
    """

    def __init__(self, game: str, count: int, protocol: AtariProtocol | None = None) -> None:
        """Raises ``UserError`` for an unknown game, or without the emulator."""
        p = self.protocol = AtariProtocol() if protocol is None else protocol
        self.n_actions = len(action_names(game, p))
        from ale_py.vector_env import AtariVectorEnv

        self._envs: list[Any] = [
            AtariVectorEnv(
                game,
                1,
                num_threads=1,
                stack_num=STACK,
                max_num_frames_per_episode=p.max_steps,  # despite its name it counts steps
                repeat_action_probability=p.sticky,
                full_action_space=p.full_actions,
                frameskip=p.frame_skip,
                maxpool=p.max_pool,
                noop_max=p.noop_max,
                episodic_life=p.episodic_life,
                use_fire_reset=p.fire_reset,
                reward_clipping=False,
            )
            for _ in range(count)
        ]
        self._first: list[NDArray[np.uint8]] = []
        self._steps = [0] * count

    def reset(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin all episodes, with any integers as seeds; states uint8 (count, 4, 84, 84), four equal frames each."""
        if len(seeds) != len(self._envs):
            raise ValueError(f"{len(seeds)} seeds for {len(self._envs)} episodes")
        self._first = [
            env.reset(seed=np.array([usable_seed(int(seed))]))[0][0, -1].copy()
            for env, seed in zip(self._envs, seeds, strict=True)
        ]
        self._steps = [0] * len(self._envs)
        return np.stack([np.stack([first] * STACK) for first in self._first])

    def step(
        self, numbers: Sequence[int], actions: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
        """Play one step of episodes ``numbers`` (m,) with discrete ``actions`` (m,); see ``Environments``.

        The caller counts steps: an episode that is only too long has not ended.

        Raises:
            ValueError: an action is out of range. The emulator would do nothing instead.
        """
        actions = np.asarray(actions)
        if actions.shape != (len(numbers),):
            raise ValueError(f"actions of shape {actions.shape} for {len(numbers)} episodes")
        outside = (actions < 0) | (actions >= self.n_actions)
        if outside.any():
            raise ValueError(f"action {actions[outside][0]} is outside the game's set, 0 to {self.n_actions - 1}")
        chosen = [self._envs[number] for number in numbers]
        for env, action in zip(chosen, actions, strict=True):  # all play at once, each in its own thread
            env.send(np.array([action], dtype=np.int64))
        answers = [env.recv() for env in chosen]
        states = np.stack([answer[0][0] for answer in answers])
        for number, state in zip(numbers, states, strict=True):
            self._steps[number] += 1
            missing = max(0, STACK - 1 - self._steps[number])
            state[:missing] = self._first[number]  # the emulator leaves these black; data sets repeat the first frame
        return (
            states,
            np.array([rewards[0] for _, rewards, *_ in answers], dtype=np.float64),
            np.array([ended[0] for _, _, ended, *_ in answers], dtype=bool),
        )

    def close(self) -> None:
        """Free the games and their threads."""
        for env in self._envs:
            env.close()
        self._envs = []
