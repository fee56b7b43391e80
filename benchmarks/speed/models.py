"""The measured models: policies of one shape, which train on the same windows and act on the same states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from backbench.agents.acting import Actor
from backbench.agents.agent import Agent, Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import vector_encoder
from backbench.agents.heads import ActionSpace
from backbench.agents.tokenizer import TOKENS, TOKENS_PER_STEP, TokenConfig
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Causal, Spec
from backbench.backbones.options import make_options
from backbench.benchmarks.speed.config import ACTION, EPISODE, OBSERVATION, RETURN_SCALE, SpeedConfig


class PeerPolicy(nn.Module):
    """A peer that is a complete model: called like an ``Agent``, with a training loss of its own."""

    loss: Callable[[Windows], Tensor]


Policy: TypeAlias = Agent | PeerPolicy
Make = Callable[[SpeedConfig, int], Policy]  # a policy for windows of so many steps, with the same weights each time


def alone(value: Tensor) -> Tensor:
    """The arrangement of a parameter that both have alike."""
    return value


# Parameters of ours, and how they make one of the peer's; by default a single one that is the same.
Arranged: TypeAlias = tuple[tuple[nn.Parameter, ...]] | tuple[tuple[nn.Parameter, ...], Callable[..., Tensor]]


@dataclass(frozen=True)
class Weight:
    """A parameter of the peer, and how its value follows from parameters of ours, or from their gradients."""

    name: str
    theirs: nn.Parameter
    ours: tuple[nn.Parameter, ...]
    arranged: Callable[..., Tensor] = alone


def same_names(ours: nn.Module, theirs: nn.Module, but: str = "") -> list[Weight]:
    """Pairs of parameters with the same name, but for names with ``but`` in them."""
    mine = {name: p for name, p in ours.named_parameters() if not (but and but in name)}
    return [Weight(name, theirs.get_parameter(name), (parameter,)) for name, parameter in mine.items()]


@dataclass(frozen=True)
class Model:
    """One row of the tables: a backbone in our agent, or a peer."""

    name: str
    make: Make
    # Of a peer: our model that it must equal, and the parameters that the two share.
    ours: Model | None = None
    weights: Callable[[nn.Module, nn.Module], list[Weight]] = same_names
    reference: Make | None = None  # of a backbone with the option ``kernels``: the same with the reference's kernels


def agent(backbone: str | type[Causal], options: dict[str, object], config: SpeedConfig, context: int) -> Agent:
    """An agent of HalfCheetah's shape with neutral state statistics and weights from seed 0."""
    shape = config.model
    spec = Spec(shape.d_model, shape.n_layers, shape.dropout, TOKENS, TOKENS_PER_STEP * context)
    torch.manual_seed(0)
    encoder = vector_encoder(OBSERVATION, shape.d_model)
    tokens = TokenConfig(EPISODE, RETURN_SCALE, shape.dropout)
    return assemble(build(backbone, options, spec), encoder, ActionSpace(ACTION), tokens)


def backbone_model(name: str, config: SpeedConfig) -> Model:
    """The backbone called ``name``. UserError: no such backbone, or it has no such options."""
    options = dict(config.options)
    has_kernels = hasattr(make_options(BACKBONES.get(name), options), "kernels")
    reference = partial(agent, name, options | {"kernels": "reference"}) if has_kernels else None
    return Model(name, partial(agent, name, options), reference=reference)


def make_policy(model: Model, config: SpeedConfig, context: int) -> Policy:
    """The model on the configured device. A peer gets the weights of our model."""
    policy = model.make(config, context)
    if model.ours is not None:
        ours = model.ours.make(config, context)
        with torch.no_grad():
            for pair in model.weights(ours, policy):
                pair.theirs.copy_(pair.arranged(*pair.ours))
    return policy.to(config.device)


def steps(length: int) -> int:
    """Environment steps of a context of at least ``length`` tokens."""
    return -(-length // TOKENS_PER_STEP)


def windows(batch: int, context: int, device: str) -> Windows:
    """Full windows of random numbers, the same each time."""
    g = torch.Generator().manual_seed(0)
    start = torch.randint(0, EPISODE - context + 1, (batch, 1), generator=g) if context < EPISODE else 0
    made = Windows(
        returns_to_go=RETURN_SCALE * torch.rand(batch, context, generator=g),
        states=torch.randn(batch, context, OBSERVATION, generator=g),
        actions=2 * torch.rand(batch, context, ACTION, generator=g) - 1,
        timesteps=start + torch.arange(context).expand(batch, context),
        mask=torch.ones(batch, context, dtype=torch.bool),
    )
    return Windows(**{name: value.to(device) for name, value in vars(made).items()})


class RecomputingActor(Actor):
    """Recomputes the complete model on its window at every decision, as the original evaluation loops do."""

    def __init__(self, policy: Policy, targets: Tensor, context: int) -> None:
        super().__init__(targets)
        self.policy, self.context = policy, context
        self.window: list[tuple[Tensor, Tensor, Tensor]] = []  # returns-to-go, states and actions of each step

    def remember(self, states: Tensor) -> None:
        """Add this step's states. Its unknown action is zeros; causality keeps it from mattering."""
        step = (self.target, states, states.new_zeros(len(states), ACTION))
        self.window = [*self.window, step][-self.context :]

    @torch.no_grad()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        self.remember(states)
        seen = len(self.window)
        timesteps = torch.arange(self.time - seen + 1, self.time + 1, device=states.device)
        columns = (torch.stack(column, dim=1) for column in zip(*self.window, strict=True))
        actions: Tensor = self.policy(*columns, timesteps.expand(len(states), seen))[:, -1]
        self.window[-1] = (*self.window[-1][:2], actions)
        return actions
