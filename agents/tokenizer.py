"""Trajectories to tokens: (R, s, a) triples in the order of Decision Transformer (arXiv:2106.01345, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbench.backbones.dropout import Dropout

TOKENS_PER_STEP = 3
RETURN, STATE, ACTION = range(TOKENS_PER_STEP)  # a token's place within its step


class TrajectoryTokenizer(nn.Module):
    """Embed (return-to-go, state, action) of each step, add the step's timestep embedding, interleave, normalise.

    Args:
        encoder: states (..., *observation) to (..., d_model).
        action_dim: size of a continuous action.
        d_model: width of a token.
        max_timesteps: rows of the timestep table; later timesteps share its last row.
        return_scale: returns-to-go are divided by it.
        dropout: probability, after the normalisation.
    """

    def __init__(
        self,
        encoder: nn.Module,
        action_dim: int,
        d_model: int,
        max_timesteps: int,
        return_scale: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.return_scale = return_scale
        self.encoder = encoder
        self.embed_return = nn.Linear(1, d_model)
        self.embed_action = nn.Linear(action_dim, d_model)
        self.embed_timestep = nn.Embedding(max_timesteps, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def _time(self, timesteps: Tensor) -> Tensor:
        rows: Tensor = self.embed_timestep(timesteps.clamp(max=self.embed_timestep.num_embeddings - 1))
        return rows

    def _finish(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.norm(tokens))
        return out

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens of whole windows.

        Args:
            returns_to_go: (batch, K) raw, unscaled.
            states: (batch, K, *observation).
            actions: (batch, K, action_dim).
            timesteps: (batch, K) integer, counted from the episode's start.

        Returns:
            (batch, 3K, d_model), ordered R_1, s_1, a_1, R_2, …
        """
        time = self._time(timesteps)  # (batch, K, d_model)
        parts = (
            self.embed_return(returns_to_go.unsqueeze(-1) / self.return_scale) + time,
            self.encoder(states) + time,
            self.embed_action(actions) + time,
        )
        return self._finish(torch.stack(parts, dim=2).flatten(1, 2))

    def next_tokens(self, actions: Tensor | None, returns_to_go: Tensor, states: Tensor, time: int) -> Tensor:
        """What came in since the last decision, when acting: a_{t-1}, R_t, s_t; on the first step there is no action.

        Args:
            actions: (batch, action_dim) of the step before, or None.
            returns_to_go: (batch,) raw, unscaled.
            states: (batch, *observation).
            time: of the step, counted from the episode's start.

        Returns:
            (batch, 3, d_model), or (batch, 2, d_model) on the first step.
        """
        table = self.embed_timestep.weight
        now = table[min(time, len(table) - 1)]
        parts = [
            self.embed_return(returns_to_go.unsqueeze(-1) / self.return_scale) + now,
            self.encoder(states) + now,
        ]
        if actions is not None:
            parts.insert(0, self.embed_action(actions) + table[min(time - 1, len(table) - 1)])
        return self._finish(torch.stack(parts, dim=1))
