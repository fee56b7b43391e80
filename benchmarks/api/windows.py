"""``backbench.load_windows``: the batches that training samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING

import torch

from backbench.agents.agent import Windows
from backbench.benchmarks.api.runs import Overrides, cell, override_words

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

__all__ = ["Windows", "load_windows"]


# Its words are those of `run`.
def load_windows(
    task: str,
    suite: str = "d4rl",
    preset: str = "quick",
    context: int | None = None,
    batch_size: int | None = None,
    *,
    seed: int = 0,
    overrides: Overrides = (),
) -> Iterator[Windows]:
    """An endless iterator of batches, equal to those of training with that seed. Generates or fetches missing data.

        windows = backbench.load_windows("hopper-medium", context=20, batch_size=64)
        batch = next(windows)
        batch.states, batch.actions, batch.mask            # (64, 20, 11), (64, 20, 3), (64, 20)

    Each batch is a ``Windows``, with B windows of K steps that are padded with zeros at the end:

        returns_to_go  (B, K) float32, sum of the rewards from this step on, not scaled
        states         (B, K, *shape) float32, not normalised, with the suite's filter; uint8 stacked frames of Atari
        actions        (B, K, size) float32, with the environment's bounds at -1 and 1; (B, K) int64 if discrete
        timesteps      (B, K) int64, index of the step in its episode
        mask           (B, K) bool, true on real steps

    Args:
        task, suite, preset, overrides: as in ``run``.
        context: K; None for the one of preset and suite.
        batch_size: B; None likewise.
        seed: of training. Batch i depends on it and on i alone.

    Raises:
        UserError: unknown task, data that are not available, or a context that does not fit.
    """
    sizes = {"model.context": context, "train.batch_size": batch_size}
    words = [f"{key}={value}" for key, value in sizes.items() if value is not None]
    # A backbone without options: windows do not depend on it.
    chosen = cell("identity", task, suite, preset, seed, [*override_words(overrides), *words])
    return _batches(chosen)


def _batches(chosen: Cell) -> Iterator[Windows]:
    from backbench.benchmarks.data import sources, store
    from backbench.benchmarks.plan.assemble import seen
    from backbench.benchmarks.run import machine
    from backbench.benchmarks.run.cell import check_data, make_sampler

    data_id = chosen.task.data_id
    due = sources.plan([(chosen.data.source, data_id)])
    if due.fetch:
        sources.fetch(due.fetch, lambda line: None, lambda name: nullcontext(lambda done, total: None))
    if due.make:
        sources.make_all(due.make, machine.cores(), lambda name: None)
    data = store.read(data_id)
    check_data(chosen, data)
    sampler, _ = make_sampler(chosen, seen(chosen, data), torch.device("cpu"))
    return map(sampler.batch, count())
