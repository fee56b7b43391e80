"""Windows of K steps, drawn in one vectorised step a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data.trajectories import Trajectories


class WindowSampler:
    """Right-padded windows, each starting at a step drawn uniformly from the data set.

    So episodes are drawn in proportion to their length, and starts uniformly within them (as Decision Transformer
    does for Gym). Batch number ``step`` depends on ``(seed, step)`` alone: it is the same after a resume, and whoever
    draws it.

    Args:
        data: the trajectories; moved to ``device`` once.
        context: K, steps in a window.
        batch_size: windows in a batch.
        seed: of the draws.
        device: where batches are made.
    """

    def __init__(self, data: Trajectories, context: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.steps = len(data.rewards)
        ends = np.repeat(data.offsets[1:], data.lengths)  # (steps,) one past the last step of each step's episode

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.ends = put(ends)
        self.states, self.actions = put(data.states), put(data.actions)
        self.returns_to_go, self.timesteps = put(data.returns_to_go), put(data.timesteps)
        self.reach = torch.arange(context, device=device)

    def starts(self, step: int) -> Tensor:
        """(batch,) flat index of the first step of each window of batch ``step``."""
        draw = np.random.default_rng([self.seed, step]).integers(self.steps, size=self.batch_size)
        return torch.from_numpy(draw).to(self.device)

    def windows(self, starts: Tensor) -> Windows:
        """The windows (batch, K, …) that begin at these flat indices (batch,)."""
        rows = starts[:, None] + self.reach  # (batch, K)
        mask = rows < self.ends[starts][:, None]
        rows = rows.clamp(max=self.steps - 1)
        keep = mask.unsqueeze(-1)
        return Windows(
            returns_to_go=self.returns_to_go[rows] * mask,
            states=self.states[rows] * keep,
            actions=self.actions[rows] * keep,
            timesteps=self.timesteps[rows] * mask,
            mask=mask,
        )

    def batch(self, step: int) -> Windows:
        """Batch number ``step``."""
        return self.windows(self.starts(step))
