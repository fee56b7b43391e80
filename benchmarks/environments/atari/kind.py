"""Atari games from pixels, under an ``AtariProtocol``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from backbench.benchmarks.environments.atari.protocol import STACK, AtariProtocol, game_of
from backbench.benchmarks.environments.atari.screen import SIZE
from backbench.benchmarks.environments.kind import (
    Camera,
    EnvironmentKind,
    Environments,
    EnvironmentSpec,
    Recorded,
    Sizes,
)
from backbench.errors import UserError, require

SCREENS_A_SECOND = 60


class AtariKind(EnvironmentKind):
    """States are four stacked grey frames, uint8 (4, 84, 84). Actions are discrete."""

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

    def max_steps(self, spec: EnvironmentSpec, declared: int, asked: int) -> int:
        longest = _protocol(spec).max_steps
        return min(longest, asked or longest)

    def make(self, spec: EnvironmentSpec, count: int) -> Environments:
        from backbench.benchmarks.environments.atari.batch import AtariBatch

        return AtariBatch(game_of(spec.env_id), count, _protocol(spec))

    def probe(self, spec: EnvironmentSpec, requires: str = "", remedy: str = "") -> None:
        self.action_names(spec)  # loads the game

    def sizes(self, spec: EnvironmentSpec) -> Sizes:
        return Sizes((STACK, SIZE, SIZE), len(self.action_names(spec)), 0)

    def check_data(self, spec: EnvironmentSpec, name: str, data: Sizes, recorded: Recorded) -> None:
        here, full_actions = self.sizes(spec), str(_protocol(spec).full_actions).lower()
        require(
            data.state_shape == here.state_shape,
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

    def conventions(self, spec: EnvironmentSpec) -> dict[str, Any]:
        return asdict(_protocol(spec))

    def camera(self, spec: EnvironmentSpec, environments: Environments) -> Camera:
        return Camera(_protocol(spec).frame_skip / SCREENS_A_SECOND, lambda states: states[0, -1].copy())

    def action_names(self, spec: EnvironmentSpec) -> tuple[str, ...]:
        from backbench.benchmarks.environments.atari.emulator import action_names

        return action_names(game_of(spec.env_id), _protocol(spec))


def _protocol(spec: EnvironmentSpec) -> AtariProtocol:
    if spec.protocol is None:
        raise UserError(f"environment {spec.env_id} needs a protocol; give the cell atari=AtariProtocol()")
    return spec.protocol


ATARI = AtariKind()
