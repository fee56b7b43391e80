"""State encoders: an observation to one vector of the model's width.

An encoder is any module with ``forward(states: (..., *observation)) -> (..., d_model)``; a pixel encoder takes the
place of ``VectorEncoder`` without a change elsewhere, and runs once a step, never once a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VectorEncoder(nn.Module):
    """Standardise a state vector by the data set's statistics, then project it.

    The statistics are buffers: they travel with the weights, so that a loaded agent sees states as it did in training.

    Args:
        mean, std: (observation,) statistics of the training states; ``std`` must be positive.
        d_model: width of the output.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, d_model: int) -> None:
        super().__init__()
        if not bool((std > 0).all()):
            raise ValueError("state standard deviations must be positive")
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.project = nn.Linear(mean.numel(), d_model)

    def forward(self, states: Tensor) -> Tensor:  # (..., observation) -> (..., d_model)
        projected: Tensor = self.project((states - self.mean) / self.std)
        return projected


def vector_encoder(observation: int, d_model: int) -> VectorEncoder:
    """An encoder with neutral statistics: for timing, for tests and to load weights into."""
    return VectorEncoder(torch.zeros(observation), torch.ones(observation), d_model)
