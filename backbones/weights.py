"""Starting weights, and which of them get no weight decay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def initialise_gpt2(module: nn.Module) -> None:
    """Weights of linear layers and embeddings ~ N(0, 0.02), biases zero (Radford et al., 2019)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def no_weight_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter that gets no weight decay. Biases, norms and embeddings never get any."""
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


class ResidualWeights(nn.Module):
    """How the residual stack initialises a mixer."""

    def residual_outputs(self) -> Iterable[nn.Linear]:
        """The linear layers whose output is added directly to the residual stream. They start scaled down."""
        return ()

    def initialise(self, residual_scale: float) -> None:
        """Set the weights of a fresh mixer: GPT-2's, with the residual outputs times ``residual_scale``."""
        initialise_gpt2(self)
        with torch.no_grad():
            for layer in self.residual_outputs():
                layer.weight.mul_(residual_scale)
