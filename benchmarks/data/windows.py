"""Windows of K steps, drawn in one vectorised step a batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data.frames import Frames
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
        clipped: returns-to-go of rewards that are clipped to [-1, 1].
    """

    def __init__(
        self,
        data: Trajectories,
        context: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        clipped: bool = False,
    ) -> None:
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.steps = len(data.rewards)
        ends = np.repeat(data.offsets[1:], data.lengths)  # (steps,) one past the last step of each step's episode

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.ends = put(ends)
        self.states: _Vectors | _Pixels
        if isinstance(data.states, Frames):
            self.states = _Pixels(data.states, data, context, device)
        else:
            self.states = _Vectors(put(data.states))
        self.actions, self.timesteps = put(data.actions), put(data.timesteps)
        self.returns_to_go = put(data.clipped_returns_to_go if clipped else data.returns_to_go)
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
        actions = self.actions[rows]
        return Windows(
            returns_to_go=self.returns_to_go[rows] * mask,
            states=self.states.at(starts, rows, mask),
            actions=actions * (mask.unsqueeze(-1) if actions.ndim == 3 else mask),
            timesteps=self.timesteps[rows] * mask,
            mask=mask,
        )

    def batch(self, step: int) -> Windows:
        """Batch number ``step``."""
        made = self.windows(self.starts(step))
        self.states.soon(self.starts(step + 1))
        return made


class _Vectors:
    """States in memory, on the device."""

    def __init__(self, states: Tensor) -> None:
        self.states = states

    def at(self, starts: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        """(batch, K, observation)."""
        return self.states[rows] * mask.unsqueeze(-1)

    def soon(self, starts: Tensor) -> None:
        """They are there."""


class _Pixels:
    """States that are stacked, when sampled, from single frames on disk."""

    def __init__(self, frames: Frames, data: Trajectories, context: int, device: torch.device) -> None:
        self.frames, self.context, self.device = frames, context, device
        episode = np.repeat(np.arange(len(data.lengths)), data.lengths)  # (steps,)
        self.shift = episode  # each episode before holds one frame more than steps: the one after its last action
        self.begins = data.offsets[:-1][episode] + episode  # (steps,) first frame of the step's episode

    def at(self, starts: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
        """(batch, K, stack, height, width) uint8, a view: neighbouring states share their frames."""
        first = starts.cpu().numpy()
        frames = self.frames.windows(first + self.shift[first], self.begins[first], mask.sum(1).tolist(), self.context)
        stack = self.frames.stack
        return torch.from_numpy(frames).to(self.device).unfold(1, stack, 1).permute(0, 1, 4, 2, 3)

    def soon(self, starts: Tensor) -> None:
        """These are read next: fetch them while the model trains, where they are not in the system's cache."""
        first = starts.cpu().numpy()
        self.frames.advise(first + self.shift[first], [self.context] * len(first))
