"""Windows of a cell's data to measure on: the steps that ask, and windows of other episodes for the causal check."""

from dataclasses import dataclass

import torch
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data.sources import embedded_memory
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import SAMPLERS
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import require

TRIES = 1000  # batches in which each window finds another episode, if there is one


@dataclass(frozen=True)
class Sample:
    """Windows as training samples them."""

    windows: Windows
    others: Windows  # a window of another episode in each row
    at: Tensor  # (batch, K) bool: steps at which a memory task asks, or real steps of another task


def sample(cell: Cell, data: Trajectories, count: int, seed: int = 0, queries: int = 0) -> Sample:
    """``count`` windows of ``data``, which are those that the cell's agent sees (``plan.assemble.seen``).

    ``queries``: at most so many steps of a window, sampled uniformly; 0 for all. Raises UserError for no window, or
    data of one episode.
    """
    require(count >= 1, f"windows={count}; give at least 1")
    require(queries >= 0, f"queries={queries}; give 0, for all, or more")
    clipped = cell.task.rewards != "raw"
    sampler = SAMPLERS[cell.data.windows](data, cell.model.context, count, seed, torch.device("cpu"), clipped)
    if cell.data.top < 1:
        sampler.keep_to(data.best(cell.data.top))
    offsets = torch.from_numpy(data.offsets)
    starts, others = sampler.starts(0), sampler.starts(1)
    episodes = torch.searchsorted(offsets, starts, right=True) - 1
    for step in range(2, TRIES):
        same = torch.searchsorted(offsets, others, right=True) - 1 == episodes
        if not bool(same.any()):
            break
        others = torch.where(same, sampler.starts(step), others)
    else:
        require(False, f"data set {data.name!r}: no other episode for a window; give data of two episodes or more")
    windows = sampler.windows(starts)
    at = windows.mask
    if embedded_memory.is_one(data.name):
        asks = torch.from_numpy(embedded_memory.questions(data.name, episodes.tolist()))
        at = at & asks.gather(1, windows.timesteps)
    windows_of_others = sampler.windows(others)
    at = at & windows_of_others.mask  # where the other episode has ended, it has nothing to lend
    if queries:
        order = torch.rand(at.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(~at, 2.0)
        at = at & (order <= order.kthvalue(min(queries, at.shape[1]), dim=1, keepdim=True).values)
    return Sample(windows, windows_of_others, at)
