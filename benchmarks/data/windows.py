"""Windows of K steps, sampled with one vectorised operation a batch."""

from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.data.trajectories import Trajectories

Indices = NDArray[np.int64]


class WindowSampler:
    """Right-padded windows that start at steps sampled uniformly, as Decision Transformer does for Gym.

    Batch ``step`` depends only on ``(seed, step)``, so a resumed run sees the same batches. ``data`` move to ``device``
    once, ``context`` is K, ``clipped`` computes returns-to-go from rewards clipped to [-1, 1].
    """

    def __init__(
        self, data: Trajectories, context: int, batch_size: int, seed: int, device: torch.device, clipped: bool = False
    ) -> None:
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.steps = self.end = len(data.rewards)  # steps that windows may start at, and steps of all data
        self.states: _Vectors | _Pixels
        if isinstance(data.states, Frames):
            self.states = _Pixels(data.states, data, context, device)
        else:
            self.states = _Vectors(data.states, context, device)
        self.actions = _Vectors(data.actions, context, device)
        self.returns_to_go = _Vectors(data.clipped_returns_to_go if clipped else data.returns_to_go, context, device)
        self.offsets, self.reach = data.offsets, np.arange(context)
        self.chosen: Indices | None = None  # steps that windows may start at; None for all

    def keep_to(self, episodes: Indices) -> None:
        """Sample from these episodes only."""
        ranges = zip(self.offsets[episodes], self.offsets[episodes + 1], strict=True)
        self.chosen = np.concatenate([np.arange(first, end) for first, end in ranges])
        self.steps = len(self.chosen)

    def tiles(self, episodes: Indices) -> Indices:
        """(windows,) flat index of the first step of each window that tiles these episodes: 0, K, 2K, … of each."""
        ranges = zip(self.offsets[episodes], self.offsets[episodes + 1], strict=True)
        return np.concatenate([np.arange(first, end, len(self.reach)) for first, end in ranges])

    def starts(self, step: int) -> Tensor:
        """(batch,) flat index of the first step of each window in batch ``step``."""
        return torch.from_numpy(self._draw(step)).to(self.device)

    def windows(self, starts: Tensor) -> Windows:
        """The windows (batch, K, …) that start at these flat indices (batch,)."""
        return self._at(starts.cpu().numpy())

    def batch(self, step: int) -> Windows:
        """Batch number ``step``."""
        made = self._at(self._draw(step))
        if isinstance(self.states, _Pixels):  # let the system fetch the next windows from disk while the model trains
            self.states.frames.advise(self.states.firsts(self._draw(step + 1)), [len(self.reach)] * self.batch_size)
        return made

    def _draw(self, step: int) -> Indices:
        drawn = np.random.default_rng([self.seed, step]).integers(self.steps, size=self.batch_size)
        return drawn if self.chosen is None else self.chosen[drawn]

    def _at(self, starts: Indices) -> Windows:
        # NumPy handles arrays this small several times faster than torch.
        after = self.offsets.searchsorted(starts, side="right")  # (batch,) index of the episode after each window's
        rows = starts[:, None] + self.reach  # (batch, K)
        inside = rows < self.offsets[after][:, None]
        timesteps = (rows - self.offsets[after - 1][:, None]) * inside
        past = None
        if int(starts.max()) + len(self.reach) > self.end:
            past = torch.from_numpy(np.minimum(rows, self.end - 1).reshape(-1)).to(self.device)
        begin, mask = torch.from_numpy(starts).to(self.device), torch.from_numpy(inside).to(self.device)
        if isinstance(self.states, _Pixels):
            states = self.states.at(starts, inside)
        else:
            states = self.states.at(begin, mask, past)
        return Windows(
            returns_to_go=self.returns_to_go.at(begin, mask, past),
            states=states,
            actions=self.actions.at(begin, mask, past),
            timesteps=torch.from_numpy(timesteps).to(self.device),
            mask=mask,
        )


class ShiftedSampler(WindowSampler):
    """Windows that are moved back to end with their episode, in shuffled epochs, as Decision Transformer's for Atari.

    An epoch takes each step of the data once, except the last 3 K. A window starts there, or K steps before the end of
    the episode. The original's reaches into the episode before if this one has fewer than K steps. Here it starts with
    the episode and is padded. Batches have one size: the epochs follow each other without a gap.
    """

    LEFT_OUT = 3  # of these many K, at the end of the data, none starts a window

    def _draw(self, step: int) -> Indices:
        context, count = len(self.reach), self.steps - self.LEFT_OUT * len(self.reach)
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, positions = np.divmod(numbers, count)
        starts = np.empty_like(numbers)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            starts[chosen] = _shuffled(count, self.seed, int(epoch))[positions[chosen]]
        if self.chosen is not None:
            starts = self.chosen[starts]
        after = self.offsets.searchsorted(starts, side="right")  # (batch,) index of the episode after each start's
        ends = np.minimum(starts + context, self.offsets[after])
        return cast("Indices", np.maximum(ends - context, self.offsets[after - 1]))


class EpisodeSampler(WindowSampler):
    """Windows that start with their episode. Episodes are sampled uniformly, and K holds the longest one."""

    def __init__(self, data: Trajectories, context: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(data, context, *args, **kwargs)
        self.keep_to(np.arange(len(data.lengths)))

    def keep_to(self, episodes: Indices) -> None:
        self.chosen = self.offsets[episodes]
        self.steps = len(self.chosen)


SAMPLERS: dict[str, type[WindowSampler]] = {
    "uniform": WindowSampler, "shifted": ShiftedSampler, "episode": EpisodeSampler
}  # fmt: skip


@lru_cache(maxsize=2)  # a batch at the end of an epoch needs two; each takes some 10 ms for a million steps
def _shuffled(count: int, seed: int, epoch: int) -> Indices:
    """The numbers 0 to count - 1 in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


class _Vectors:
    """An array with one row a step, in memory on the device."""

    def __init__(self, array: np.ndarray, context: int, device: torch.device) -> None:
        self.shape = array.shape[1:]
        self.rows = torch.from_numpy(np.ascontiguousarray(array)).to(device)
        # A window is one contiguous piece of memory, which copies faster than its rows. The pieces overlap.
        count, width = max(0, len(array) - context + 1), self.rows[0].numel()
        self.pieces = self.rows.as_strided((count, context * width), (width, 1))

    def at(self, starts: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor:
        """(batch, K, *row), zero where ``mask`` is false. ``rows`` (batch * K,) if a window ends past the data."""
        taken = self.pieces.index_select(0, starts) if rows is None else self.rows.index_select(0, rows)
        return taken.view(*mask.shape, *self.shape).mul_(mask.unsqueeze(-1) if self.shape else mask)


class _Pixels:
    """States stacked, when sampled, from single frames on disk."""

    def __init__(self, frames: Frames, data: Trajectories, context: int, device: torch.device) -> None:
        self.frames, self.context, self.device = frames, context, device
        # (steps,) episode of a step. Every earlier one has one more frame than steps, after its last action.
        self.episode = np.repeat(np.arange(len(data.lengths)), data.lengths)
        self.begins = data.offsets[:-1][self.episode] + self.episode  # (steps,) first frame of the step's episode

    def at(self, starts: Indices, mask: NDArray[np.bool_]) -> Tensor:
        """(batch, K, stack, height, width) uint8, a view in which neighbouring states share frames."""
        real, begins = mask.sum(1).tolist(), self.begins[starts].tolist()
        frames = self.frames.windows(self.firsts(starts), begins, real, self.context)
        return torch.from_numpy(frames).to(self.device).unfold(1, self.frames.stack, 1).permute(0, 1, 4, 2, 3)

    def firsts(self, starts: Indices) -> list[int]:
        """The frames of these steps."""
        return cast("list[int]", (starts + self.episode[starts]).tolist())
