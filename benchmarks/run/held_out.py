"""The loss on episodes that training never saw."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from backbench.agents.agent import Agent
from backbench.benchmarks.data.split import Indices
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.run.evaluate import Interrupted


@dataclass(frozen=True)
class HeldOut:
    """Mean training loss over all steps of episodes, each step once."""

    episodes: int
    steps: int
    loss: float


def held_out_loss(
    agent: Agent, sampler: WindowSampler, episodes: Indices, should_stop: Callable[[], bool] = lambda: False
) -> HeldOut:
    """The loss of ``agent``, in evaluation mode and float32, on windows of K steps that tile ``episodes``.

    A step sees the steps before it in its window, as in training. Nothing is sampled. Raises ``Interrupted`` if
    ``should_stop``, asked before every batch, returned true, and ``FloatingPointError`` if the loss is not finite.
    """
    was_training, total, steps = agent.training, 0.0, 0
    agent.eval()
    try:
        with torch.no_grad():
            starts = torch.from_numpy(sampler.tiles(episodes))
            for first in range(0, len(starts), sampler.batch_size):
                if should_stop():
                    raise Interrupted
                batch = sampler.windows(starts[first : first + sampler.batch_size])
                count = int(batch.mask.sum())
                total += float(agent.loss(batch)) * count
                steps += count
    finally:
        agent.train(was_training)
    if not math.isfinite(total):
        raise FloatingPointError("the loss on held-out episodes is not finite")
    return HeldOut(len(episodes), steps, total / steps)
