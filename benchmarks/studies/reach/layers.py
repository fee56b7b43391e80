"""What the measurements share: an agent's layers, its tokens and actions, and the steps that they ask about."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent, Windows
from backbench.backbones.contract import Mixer
from backbench.backbones.mixers.convformer import Convformer
from backbench.backbones.mixers.deltanet import DeltaNet
from backbench.backbones.mixers.identity import Identity
from backbench.backbones.mixers.linear_attention import LinearAttention
from backbench.backbones.mixers.mlp import StepMLP
from backbench.backbones.mixers.mlstm import MLSTM
from backbench.backbones.mixers.rnn import RNN
from backbench.backbones.mixers.slstm import SLSTM
from backbench.backbones.mixers.transformer import Transformer
from backbench.backbones.stack import ResidualStack
from backbench.errors import require

STATELESS = "it has no state, but a fixed number of tokens"
NONLINEAR = "its recurrence is not linear in its state"
REASONS: tuple[tuple[type[Mixer], str], ...] = (
    (Transformer, "attention keeps all tokens of its window and has no state"),
    (Convformer, STATELESS),
    (StepMLP, STATELESS),
    (Identity, STATELESS),
    (RNN, NONLINEAR),
    (SLSTM, NONLINEAR),
    (MLSTM, "its exponential gates rescale the state at each token"),
    (LinearAttention, "its state is a sum and never decays"),
    (DeltaNet, "the delta rule replaces what a key holds, and nothing decays"),
)  # the reason of a layer with input-dependent decays only is the default
PER_TOKEN = "its decays are computed from each token"
UNKNOWN = "this measurement does not know the layer"


def mixers(agent: Agent) -> list[Mixer]:
    """The agent's mixer of each layer; empty for another package's complete backbone."""
    backbone = agent.backbone
    return [layer.mixer for layer in backbone.layers] if isinstance(backbone, ResidualStack) else []  # type: ignore[misc]


@contextmanager
def evaluating(agent: Agent) -> Iterator[None]:
    """Without dropout; a fresh agent is in training mode."""
    was = agent.training
    agent.eval()
    try:
        yield
    finally:
        agent.train(was)


def embedded(agent: Agent, windows: Windows) -> Tensor:
    """The tokens that enter the backbone, (batch, tokens, d_model)."""
    return agent.tokenizer(windows.returns_to_go, windows.states, windows.actions, windows.timesteps)  # type: ignore[no-any-return]


def policy(agent: Agent, tokens: Tensor) -> Tensor:
    """What decides the action of each step, (batch, K, out): the head's output.

    Of discrete actions without the mean of the logits, since the same number added to all changes no probability.
    """
    output: Tensor = agent.head(agent.backbone.forward_at(tokens, agent.tokenizer.states))
    return output - output.mean(-1, keepdim=True) if agent.head.discrete else output


def inputs(agent: Agent, windows: Windows) -> list[Tensor]:
    """What enters the mixer of each layer, (batch, tokens, d_model), normalised as the mixer sees it."""
    heard: list[Tensor] = []

    def hear(_: nn.Module, given: tuple[Tensor]) -> None:
        heard.append(given[0])

    hooks = [mixer.register_forward_pre_hook(hear) for mixer in mixers(agent)]
    try:
        with evaluating(agent), torch.no_grad():
            agent.backbone(embedded(agent, windows))
    finally:
        for hook in hooks:
            hook.remove()
    return heard


def chosen(windows: Windows, at: Tensor | None, others: Windows | None = None) -> Tensor:
    """(batch, K) bool: the steps among ``at``, None for all, that are real in both.

    Raises UserError for other shapes, or if no step is left.
    """
    mask = windows.mask
    if others is not None:
        own, theirs = ([tuple(part.shape) for part in (each.states, each.actions)] for each in (windows, others))
        require(own == theirs, f"windows of other episodes: states and actions {theirs}; give the shapes {own}")
        mask = mask & others.mask
    at = mask if at is None else at
    shapes = f"steps to measure at: {tuple(at.shape)}; the windows are {tuple(mask.shape)}: give one each"
    require(at.shape == mask.shape, shapes)
    kept = at.bool() & mask
    require(bool(kept.any()), "steps to measure at: none of them is in the windows; choose other steps or windows")
    return kept
