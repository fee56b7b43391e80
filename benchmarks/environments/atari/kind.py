"""Atari games from pixels, under an ``AtariProtocol``, with the emulator's own vector environment."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments import kind
from backbench.benchmarks.environments.atari.emulator import action_names
from backbench.benchmarks.environments.atari.protocol import AtariProtocol, game_of
from backbench.benchmarks.environments.atari.screen import SIZE
from backbench.errors import UserError, require
from backbench.leaderboard.record.identity import without_added

SEEDS = 2**31 - 1  # the emulator's largest seed; it ignores seeds below 1
SCREENS_A_SECOND = 60


def usable_seed(seed: int) -> int:
    """Any integer as a seed that the emulator accepts, 1 to 2**31 - 1; seeds in that range stay."""
    return (seed - 1) % SEEDS + 1


class AtariBatch:
    """``count`` episodes, each in its own environment, so that finished ones can stop."""

    def __init__(self, game: str, count: int, protocol: AtariProtocol | None = None) -> None:
        """Raises ``UserError`` for an unknown game, or without the emulator."""
        p = protocol or AtariProtocol()
        self.stack = p.stack
        self.n_actions = len(action_names(game, p))
        from ale_py.vector_env import AtariVectorEnv

        settings: dict[str, Any] = dict(
            num_threads=1, stack_num=p.stack, frameskip=p.frame_skip, maxpool=p.max_pool, noop_max=p.noop_max,
            episodic_life=p.episodic_life, use_fire_reset=p.fire_reset, full_action_space=p.full_actions,
            repeat_action_probability=p.sticky, reward_clipping=False,
            max_num_frames_per_episode=p.max_steps,  # despite its name it counts steps
        )  # fmt: skip
        self._envs: list[Any] = [AtariVectorEnv(game, 1, **settings) for _ in range(count)]

    def reset(self, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """Begin all episodes, with any integers as seeds; states uint8 (count, stack, 84, 84) of equal frames."""
        if len(seeds) != len(self._envs):
            raise ValueError(f"{len(seeds)} seeds for {len(self._envs)} episodes")
        starts = [env.reset(seed=np.array([usable_seed(int(s))]))[0] for env, s in zip(self._envs, seeds, strict=True)]
        self._first = np.concatenate(starts)[:, -1]
        self._steps = [0] * len(self._envs)
        return np.repeat(self._first[:, None], self.stack, axis=1)

    def step(self, numbers: Sequence[int], actions: NDArray[Any]) -> kind.Stepped:
        """Play one step of episodes ``numbers`` (m,) with discrete ``actions`` (m,); see ``Environments``.

        The caller counts steps: an episode that is only too long has not ended. Raises ``ValueError`` for an action out
        of range. The emulator would do nothing instead.
        """
        actions = np.asarray(actions)
        if actions.shape != (len(numbers),):
            raise ValueError(f"actions of shape {actions.shape} for {len(numbers)} episodes")
        outside = (actions < 0) | (actions >= self.n_actions)
        if outside.any():
            raise ValueError(f"action {actions[outside][0]} is outside the game's set, 0 to {self.n_actions - 1}")
        for number, action in zip(numbers, actions, strict=True):  # all play at once, each in its own thread
            self._envs[number].send(np.array([action], dtype=np.int64))
        frames, rewards, ended, *_ = zip(*(self._envs[number].recv() for number in numbers), strict=True)
        states = np.concatenate(frames)
        for number, state in zip(numbers, states, strict=True):
            self._steps[number] += 1
            missing = max(0, self.stack - 1 - self._steps[number])
            state[:missing] = self._first[number]  # the emulator leaves these black; data sets repeat the first frame
        return states, np.concatenate(rewards).astype(np.float64), np.concatenate(ended).astype(bool)

    def close(self) -> None:
        """Free the games and their threads."""
        for env in self._envs:
            env.close()
        self._envs = []


class AtariKind(kind.EnvironmentKind):
    """States are stacked grey frames, uint8 (stack, 84, 84). Actions are discrete."""

    frames = True
    timesteps_from_data = True  # as published; a table for a complete game would be larger than the model
    presets = ("atari",)
    model_settings = ("timestep", "embedding", "encoder")
    unused_settings = ()

    def protocol(self, settings: AtariProtocol) -> AtariProtocol:
        return settings

    def suite_problem(self, env_id: str, kwargs: Mapping[str, Any], limited: bool) -> str:
        if not env_id.startswith("ALE/"):
            return f"env_id: {env_id} is not an Atari environment; give ALE/<Game>-v5, or remove pixels: true"
        if kwargs:
            return f"env_kwargs: an Atari environment takes no {next(iter(kwargs))}; use overrides atari.<setting>"
        return "max_steps: unused by Atari; use the override atari.max_frames or eval.max_steps" if limited else ""

    def max_steps(self, spec: kind.EnvironmentSpec, declared: int, asked: int) -> int:
        longest = _protocol(spec).max_steps
        return min(longest, asked or longest)

    def make(self, spec: kind.EnvironmentSpec, count: int) -> kind.Environments:
        return AtariBatch(game_of(spec.env_id), count, _protocol(spec))

    def probe(self, spec: kind.EnvironmentSpec, requires: str = "", remedy: str = "") -> None:
        self.action_names(spec)  # loads the game

    def sizes(self, spec: kind.EnvironmentSpec) -> kind.Sizes:
        return kind.Sizes((self.stack(spec), SIZE, SIZE), len(self.action_names(spec)), 0)

    def stack(self, spec: kind.EnvironmentSpec) -> int:
        return _protocol(spec).stack

    def check_data(self, spec: kind.EnvironmentSpec, name: str, data: kind.Sizes, recorded: kind.Recorded) -> None:
        here, full_actions = self.sizes(spec), str(_protocol(spec).full_actions).lower()
        require(
            data.state_shape[1:] == here.state_shape[1:],  # any number of frames can be stacked
            f"data set {name!r} has states {data.state_shape} and {spec.env_id} has {here.state_shape}; use frames in "
            "Backbench's format: bench data make or bench data pull",
        )
        require(  # an index in another set of actions is another action
            data.n_actions == here.n_actions,
            f"data set {name!r} has {data.n_actions} actions and {spec.env_id} has {here.n_actions} with "
            f"atari.full_actions={full_actions}; the sets must be the same",
        )

    def state_shape(self, weights: Mapping[str, Any]) -> tuple[int, ...]:
        stack = weights["tokenizer.encoder.convolutions.0.weight"].shape[1]
        return (stack, SIZE, SIZE)  # weights do not contain the size of the frames

    def conventions(self, spec: kind.EnvironmentSpec) -> dict[str, Any]:
        return dict(without_added({"atari": asdict(_protocol(spec))})["atari"])

    def camera(self, spec: kind.EnvironmentSpec, environments: kind.Environments) -> kind.Camera:
        return kind.Camera(_protocol(spec).frame_skip / SCREENS_A_SECOND, lambda states: states[0, -1].copy())

    def action_names(self, spec: kind.EnvironmentSpec) -> tuple[str, ...]:
        return action_names(game_of(spec.env_id), _protocol(spec))


def _protocol(spec: kind.EnvironmentSpec) -> AtariProtocol:
    if spec.protocol is None:
        raise UserError(f"environment {spec.env_id} needs a protocol; give the cell atari=AtariProtocol()")
    return spec.protocol


ATARI = AtariKind()
