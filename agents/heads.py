"""Action heads: from the backbone's output on the state positions to a loss and to an action."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class ActionHead(nn.Module, ABC):
    """What every head offers; ``forward`` gives the parameters of its actions, ``(…, d_model) -> (…, out)``."""

    sampling: str  # how ``act`` chooses, as the record names it

    @abstractmethod
    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean loss over the steps where ``mask`` (batch, K) is true; padded steps weigh nothing."""

    @abstractmethod
    def act(self, output: Tensor) -> Tensor:
        """Actions for ``output`` (batch, out)."""


class TanhHead(ActionHead):
    """Deterministic continuous actions in (-1, 1), trained by mean squared error (Decision Transformer, Gym)."""

    sampling = "deterministic"

    def __init__(self, d_model: int, action_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_model, action_dim)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, hidden: Tensor) -> Tensor:  # (…, d_model) -> (…, action_dim)
        return torch.tanh(self.project(hidden))

    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean over valid steps and action dimensions; ``output`` and ``actions`` (batch, K, action_dim)."""
        weight = mask.unsqueeze(-1).to(output.dtype)
        total = ((output - actions) ** 2 * weight).sum()
        return total / (weight.sum() * actions.shape[-1])

    def act(self, output: Tensor) -> Tensor:
        return output
