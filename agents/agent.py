"""The agent: tokenizer, backbone and action head, put together once for all backbones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from backbench.agents.heads import ActionHead, CategoricalHead, TanhHead
from backbench.agents.tokenizer import STATE, TOKENS_PER_STEP, TokenConfig, TrajectoryTokenizer
from backbench.backbones.contract import Backbone


@dataclass(frozen=True)
class Windows:
    """A batch of right-padded windows of K steps.

    Attributes:
        returns_to_go: (batch, K) float32, unscaled.
        states: (batch, K, *observation) float32, or uint8 for pixels.
        actions: (batch, K, action_dim) float32, or (batch, K) int64 where they are numbered.
        timesteps: (batch, K) int64.
        mask: (batch, K) bool, true on real steps; padding is zero and comes last.
    """

    returns_to_go: Tensor
    states: Tensor
    actions: Tensor
    timesteps: Tensor
    mask: Tensor


class Agent(nn.Module):
    """A return-conditioned policy over trajectory windows.

    Padding is on the right and the backbone is causal, so that padded steps cannot reach real ones; only the loss
    has to leave them out.
    """

    def __init__(self, tokenizer: TrajectoryTokenizer, backbone: Backbone, head: ActionHead) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.head = head

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """The head's output at every step's state token: (batch, K, out)."""
        tokens = self.tokenizer(returns_to_go, states, actions, timesteps)  # (batch, 3K, d_model)
        # The state tokens see R_1 … s_t, not yet a_t; what the other tokens come to, nobody reads.
        output: Tensor = self.head(self.backbone.forward_at(tokens, slice(STATE, None, TOKENS_PER_STEP)))
        return output

    def loss(self, batch: Windows) -> Tensor:
        """Mean imitation loss over the batch's real steps."""
        output = self(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
        return self.head.loss(output, batch.actions, batch.mask)


def continuous_agent(
    backbone: Backbone, encoder: nn.Module, action_dim: int, d_model: int, tokens: TokenConfig
) -> Agent:
    """The agent of the Gym suites: any state encoder, tanh head."""
    return Agent(TrajectoryTokenizer(encoder, action_dim, d_model, tokens), backbone, TanhHead(d_model, action_dim))


def discrete_agent(
    backbone: Backbone, encoder: nn.Module, n_actions: int, d_model: int, tokens: TokenConfig, temperature: float = 1.0
) -> Agent:
    """The agent of the Atari suite: any state encoder, categorical head."""
    return Agent(
        TrajectoryTokenizer(encoder, n_actions, d_model, tokens, numbered=True),
        backbone,
        CategoricalHead(d_model, n_actions, temperature),
    )
