"""Who is measured: policies of one shape, which train on the same windows and act on the same states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from backbench.agents.acting import Actor, make_actor
from backbench.agents.agent import Agent, Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import vector_encoder
from backbench.agents.spaces import ActionSpace
from backbench.agents.tokenizer import TOKENS_PER_STEP, TokenConfig
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Causal, Spec
from backbench.backbones.options import make_options
from backbench.benchmarks.speed.config import ACTION, EPISODE, OBSERVATION, RETURN_SCALE, SpeedConfig


class Policy(nn.Module, ABC):
    """What a peer that is a whole model offers; an ``Agent`` offers the same."""

    @abstractmethod
    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """Actions at every step of the windows: (batch, K, action)."""

    @abstractmethod
    def loss(self, batch: Windows) -> Tensor:
        """Its own training loss."""


@dataclass(frozen=True)
class Weight:
    """The same parameter in a backbone of ours and in its peer, which may hold it transposed."""

    name: str
    ours: nn.Parameter
    theirs: nn.Parameter
    transposed: bool = False


class Make(Protocol):
    """Builds a subject for windows of ``context`` steps; with the same weights each time."""

    def __call__(self, config: SpeedConfig, context: int) -> Agent | Policy: ...


@dataclass(frozen=True)
class Subject:
    """One line of the tables."""

    name: str
    make: Make
    # For a peer: the one of ours that it must equal, and which of their parameters are the same.
    twin: Subject | None = None
    weights: Callable[[nn.Module, nn.Module], list[Weight]] | None = None
    # For one of ours: the same with the reference's kernels, where it has an option for that.
    plain: Make | None = None


def agent(backbone: str | type[Causal], options: dict[str, object], config: SpeedConfig, context: int) -> Agent:
    """An agent of HalfCheetah's shape with neutral state statistics, its weights drawn from seed 0."""
    model = config.model
    spec = Spec(model.d_model, model.n_layers, model.dropout, TOKENS_PER_STEP, TOKENS_PER_STEP * context)
    torch.manual_seed(0)
    return assemble(
        build(backbone, options, spec),
        vector_encoder(OBSERVATION, model.d_model),
        ActionSpace(ACTION),
        TokenConfig(EPISODE, RETURN_SCALE, model.dropout),
    )


def subject(name: str, config: SpeedConfig) -> Subject:
    """The backbone called ``name``. UserError: there is none, or it has no such options."""
    options = dict(config.options)
    plain: Make | None = None
    if hasattr(make_options(BACKBONES.get(name), options), "kernels"):
        plain = lambda config, context: agent(name, options | {"kernels": "reference"}, config, context)  # noqa: E731
    return Subject(name, lambda config, context: agent(name, options, config, context), plain=plain)


def steps(length: int) -> int:
    """Environment steps of a context of at least ``length`` tokens."""
    return -(-length // TOKENS_PER_STEP)


def windows(batch: int, context: int, device: torch.device) -> Windows:
    """Full windows of made-up numbers, the same each time."""
    g = torch.Generator().manual_seed(0)
    start = torch.randint(0, EPISODE - context + 1, (batch, 1), generator=g) if context < EPISODE else 0
    parts = Windows(
        returns_to_go=RETURN_SCALE * torch.rand(batch, context, generator=g),
        states=torch.randn(batch, context, OBSERVATION, generator=g),
        actions=2 * torch.rand(batch, context, ACTION, generator=g) - 1,
        timesteps=start + torch.arange(context).expand(batch, context),
        mask=torch.ones(batch, context, dtype=torch.bool),
    )
    return Windows(**{name: value.to(device) for name, value in vars(parts).items()})


class WholeWindowActor(Actor):
    """Recomputes the whole model on the window at every decision, as the original evaluation loops do.

    The token of the action that is not yet known is there, and zero; causality keeps it from mattering.
    """

    def __init__(self, policy: Agent | Policy, targets: Tensor, context: int) -> None:
        super().__init__(targets)
        self.policy, self.context = policy, context
        self.returns: list[Tensor] = []
        self.states: list[Tensor] = []
        self.actions: list[Tensor] = []

    def remember(self, states: Tensor) -> None:
        """Take in the states of this step, and leave its action open."""
        self.returns = [*self.returns, self.target][-self.context :]
        self.states = [*self.states, states][-self.context :]
        self.actions = [*self.actions, states.new_zeros(len(states), ACTION)][-self.context :]

    @torch.no_grad()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        self.remember(states)
        seen = len(self.states)
        timesteps = torch.arange(self.time - seen + 1, self.time + 1, device=states.device)
        parts = (torch.stack(part, dim=1) for part in (self.returns, self.states, self.actions))
        actions: Tensor = self.policy(*parts, timesteps.expand(len(states), seen))[:, -1]
        self.actions[-1] = actions
        return actions

    def update(self, rewards: Tensor) -> None:
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        self.target = self.target[rows]
        for kept in (self.returns, self.states, self.actions):
            kept[:] = [part[rows] for part in kept]


def warm_actor(policy: Agent | Policy, acting: str, states: Tensor, context: int) -> Actor:
    """An actor that has decided ``context`` times for ``states`` (batch, observation): its window is full.

    The window is filled without the backbone's work, of which nothing is kept.
    """
    targets = torch.zeros(len(states), device=states.device)
    if not isinstance(policy, Agent):
        whole = WholeWindowActor(policy, targets, context)
        for _ in range(context):
            whole.remember(states)
            whole.update(targets)
        return whole
    actor, backbone = make_actor(policy, acting, targets, context), policy.backbone
    if acting == "window":  # what the window keeps is prepared for each token alone, and mixed afresh in `last`
        nothing = torch.zeros(len(states), backbone.spec.d_model, device=states.device)
        backbone.last = lambda prepared: nothing  # type: ignore[method-assign]
    try:
        for _ in range(context):
            actor.act(states)
            actor.update(targets)
    finally:
        if acting == "window":
            del backbone.last
    return actor
