"""The agent: tokenizer, backbone and action head, the same for all backbones."""

from dataclasses import dataclass

from torch import Tensor, nn

from backbench.agents.heads import ActionHead
from backbench.agents.tokenizer import TrajectoryTokenizer
from backbench.backbones.contract import Backbone


@dataclass(frozen=True)
class Windows:
    """A batch of right-padded windows of K steps."""

    returns_to_go: Tensor  # (batch, K) float32, unscaled
    states: Tensor  # (batch, K, *observation) float32, or uint8 for pixels
    actions: Tensor  # (batch, K, action_dim) float32, or (batch, K) int64 if discrete
    timesteps: Tensor  # (batch, K) int64
    mask: Tensor  # (batch, K) bool, true on real steps; padding is zero and comes last


class Agent(nn.Module):
    """A return-conditioned policy over trajectory windows.

    The backbone is causal, so padding on the right cannot influence real steps. Only the loss has to mask it.
    """

    def __init__(self, tokenizer: TrajectoryTokenizer, backbone: Backbone, head: ActionHead) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.head = head

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """The head's output at every step's state token: (batch, K, out)."""
        tokens = self.tokenizer(returns_to_go, states, actions, timesteps)  # (batch, 3K, d_model), or fewer tokens
        # A state token sees R_1 … s_t and not yet a_t. The outputs at the other tokens are unused.
        hidden = self.backbone.forward_at(tokens, self.tokenizer.states)
        return self.head(hidden)  # type: ignore[no-any-return]

    def loss(self, batch: Windows) -> Tensor:
        """Mean imitation loss over the batch's real steps."""
        output = self(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
        return self.head.loss(output, batch.actions, batch.mask)

    def decide(self, hidden: Tensor, uniforms: Tensor | None) -> Tensor:
        """Actions for the backbone's output (n, d_model) at the last state token; see ``ActionHead.act``."""
        return self.head.act(self.head(hidden), uniforms)
