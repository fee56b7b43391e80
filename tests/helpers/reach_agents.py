"""Agents and windows for the measurements of reach, and backbones that look where they are told to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.agents.agent import Agent, Windows
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.backbones.contract import Backbone

K, SIZE, ACTIONS = 8, 5, 4  # steps of a window, numbers of a state, actions


def windows(seed: int = 0, batch: int = 3, steps: int = K, discrete: bool = True) -> Windows:
    """Random ones without padding."""
    g = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, ACTIONS, (batch, steps), generator=g)
    return Windows(
        torch.rand(batch, steps, generator=g),
        torch.randn(batch, steps, SIZE, generator=g),
        numbers if discrete else torch.rand(batch, steps, ACTIONS, generator=g) * 2 - 1,
        torch.arange(steps).repeat(batch, 1),
        torch.ones(batch, steps, dtype=torch.bool),
    )


def padded(made: Windows, row: int, steps: int) -> Windows:
    """The same windows, with only ``steps`` real ones in a row; what is padding stays as it was."""
    mask = made.mask.clone()
    mask[row, steps:] = False
    return replace(made, mask=mask)


def doubled(made: Windows) -> Windows:
    """In double precision."""
    actions = made.actions.double() if made.actions.is_floating_point() else made.actions
    return replace(made, returns_to_go=made.returns_to_go.double(), states=made.states.double(), actions=actions)


def agent(
    backbone: Any, options: Any = None, discrete: bool = True, layers: int = 2, tokens: str = "rsa", stir: float = 0.3
) -> Agent:
    """A small agent. ``stir`` moves all its weights at random, so that small effects show."""
    torch.manual_seed(0)
    model = ModelSettings(d_model=16, n_layers=layers, dropout=0.1, context=K, tokens=tokens)
    made = build_agent(backbone, options, model, Spaces((SIZE,), ActionSpace(ACTIONS, discrete), K, 1.0))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(stir * torch.randn_like(parameter))
    return made


@dataclass(frozen=True)
class Lag:
    """Option of `Delay`."""

    steps: int = 0


class Delay(Backbone):
    """The token of so many steps ago, and zeros before."""

    Options = Lag

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.options.steps * self.spec.tokens_per_step
        return F.pad(x, (0, 0, tokens, 0))[:, : x.shape[1]]


class Hard(Delay):
    """The same through a gate so hard that its gradient vanishes nearly everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(1e3 * super().forward(x))


class Everything(Backbone):
    """The mean of all tokens so far: each has an equal part."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1, dtype=x.dtype).unsqueeze(1)
