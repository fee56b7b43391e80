"""From spaces and settings to an agent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from backbench.agents.agent import Agent
from backbench.agents.encoders import PixelEncoder, VectorEncoder, vector_encoder
from backbench.agents.heads import HEADS, ActionSpace, head_for
from backbench.agents.tokenizer import LAYOUTS, TokenConfig, TrajectoryTokenizer
from backbench.backbones.build import build
from backbench.backbones.contract import Backbone, Causal, Spec


@dataclass(frozen=True)
class ModelSettings:
    """Settings that all backbones share. ``encoder`` applies to pixels only; see :class:`TokenConfig` for the rest."""

    d_model: int
    n_layers: int
    dropout: float
    context: int
    timestep: str = "step"
    embedding: str = "norm"
    encoder: str = "light"
    init: str = "gpt2"
    residual_scale: bool = True
    tokens: str = "rsa"

    @property
    def spec(self) -> Spec:
        """What a backbone needs to know of them."""
        kinds, scaled = LAYOUTS[self.tokens], self.residual_scale
        length = len(kinds) * self.context
        return Spec(self.d_model, self.n_layers, self.dropout, kinds, length, residual_scale=scaled)


@dataclass(frozen=True)
class Spaces:
    """Shapes, scales and statistics."""

    state_shape: tuple[int, ...]  # (size,) of state vectors, or (stack, height, width) of pixels
    actions: ActionSpace
    max_timesteps: int  # rows of the timestep table: the longest episode of data and evaluation, in steps
    return_scale: float  # returns-to-go are divided by it
    statistics: tuple[Tensor, Tensor] | None = None  # mean and std of state vectors, (size,) each; default 0 and 1
    head: str = ""  # name of the action head; empty for the action space's own


def build_agent(
    backbone: str | type[Causal], options: Mapping[str, Any] | object | None, model: ModelSettings, spaces: Spaces
) -> Agent:
    """Build an agent with new weights from PyTorch's global generator.

    ``backbone`` and ``options`` are those of :func:`backbench.backbones.build.build`, which may raise UserError.
    """
    # Equal seeds give equal weights only if this order stays: backbone, encoder, tokenizer, head.
    stack = build(backbone, options, model.spec)
    encoder: nn.Module
    if len(spaces.state_shape) > 1:
        encoder = PixelEncoder(model.encoder, spaces.state_shape, model.d_model)
    elif spaces.statistics is None:
        encoder = vector_encoder(spaces.state_shape[0], model.d_model)
    else:
        encoder = VectorEncoder(*spaces.statistics, model.d_model)
    settings = (model.dropout, model.timestep, model.embedding, model.context, model.init, model.tokens)
    tokens = TokenConfig(spaces.max_timesteps, spaces.return_scale, *settings)
    return assemble(stack, encoder, spaces.actions, tokens, spaces.head)


def assemble(
    backbone: Backbone, encoder: nn.Module, actions: ActionSpace, tokens: TokenConfig, head: str = ""
) -> Agent:
    """An agent around any backbone and state encoder; without a name the head follows from the action space."""
    d_model = backbone.spec.d_model
    tokenizer = TrajectoryTokenizer(encoder, actions, d_model, tokens)
    kind = HEADS.get(head) if head else head_for(actions.discrete)
    made = kind(d_model, actions)
    if tokens.init == "torch":
        made.project.reset_parameters()
    return Agent(tokenizer, backbone, made)


def count_parameters(module: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
