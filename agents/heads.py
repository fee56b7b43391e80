"""Action heads: from the backbone's output on the state positions to a loss and to an action."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ActionHead(nn.Module, ABC):
    """What every head offers; ``forward`` gives the parameters of its actions, ``(…, d_model) -> (…, out)``."""

    draws: bool = False  # whether ``act`` needs random numbers

    @staticmethod
    @abstractmethod
    def sampling_at(temperature: float) -> str:
        """How ``act`` chooses, as the record names it."""

    @abstractmethod
    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean loss over the steps where ``mask`` (batch, K) is true; padded steps weigh nothing."""

    @abstractmethod
    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Actions for ``output`` (batch, out); a head that ``draws`` needs a number in [0, 1) for each, (batch,).

        A head of numbered actions raises ``FloatingPointError`` for NaN or infinite ``output``.
        """


class TanhHead(ActionHead):
    """Deterministic continuous actions in (-1, 1), trained by mean squared error (Decision Transformer, Gym)."""

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

    @staticmethod
    def sampling_at(temperature: float) -> str:
        return "deterministic"

    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return output


class CategoricalHead(ActionHead):
    """One of ``n_actions`` numbered actions, trained by cross-entropy (Decision Transformer, Atari).

    Args:
        temperature: logits are divided by it and an action is drawn; 0 takes the likeliest one.
    """

    def __init__(self, d_model: int, n_actions: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.draws = temperature > 0
        self.project = nn.Linear(d_model, n_actions, bias=False)
        nn.init.normal_(self.project.weight, std=0.02)

    @staticmethod
    def sampling_at(temperature: float) -> str:
        return f"sampled at T={temperature:g}" if temperature > 0 else "greedy"

    def forward(self, hidden: Tensor) -> Tensor:  # (…, d_model) -> (…, n_actions)
        logits: Tensor = self.project(hidden)
        return logits

    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean over valid steps; ``output`` (batch, K, n_actions), ``actions`` (batch, K) integer."""
        each = F.cross_entropy(output.flatten(0, 1), actions.flatten(), reduction="none")
        weight = mask.flatten().to(each.dtype)
        return (each * weight).sum() / weight.sum()

    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        if not bool(output.isfinite().all()):  # any number would pass for an action
            raise FloatingPointError("the agent's actions are not finite")
        if not self.draws:
            return output.argmax(-1)
        assert uniforms is not None, "an action is drawn: act needs random numbers"
        # By the cumulative distribution: one number an action, whoever drew it and wherever the rest of the batch is.
        cumulative = torch.softmax(output.double() / self.temperature, -1).cumsum(-1)
        drawn = (uniforms.double().to(output.device).unsqueeze(-1) >= cumulative).sum(-1)
        return drawn.clamp(max=output.shape[-1] - 1)
