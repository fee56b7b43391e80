"""Which episodes of a data set training uses, and which are held out from it."""

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.trajectories import Trajectories
from backbench.errors import require

Indices = NDArray[np.int64]
STREAM = 520_000_000  # of random numbers, so that no order equals that of an epoch


def split(data: Trajectories, held_out: int, episodes: int, seed: int) -> tuple[Indices, Indices]:
    """Indices of the episodes that training uses, and of those held out, each in the order of the data.

    The held-out ones depend on the number of episodes in ``data`` alone. The others have an order that also depends on
    ``seed``, and training uses its first ``episodes``, 0 for all: those of N are among those of 2N.
    UserError if the data set has fewer.
    """
    count = len(data.lengths)
    needed = held_out + max(1, episodes)
    asked = " ".join(f"data.{n}={v:,}" for n, v in (("held_out", held_out), ("episodes", episodes)) if v)
    require(needed <= count, f"{asked} needs {needed:,} episodes; data set {data.name!r} has {count:,}: give fewer")
    held = _order(count, 0)[:held_out]
    order = _order(count, 1 + seed)
    trained = order[~np.isin(order, held)][: episodes or None]
    return np.sort(trained), np.sort(held)


def _order(count: int, stream: int) -> Indices:
    return np.random.default_rng([STREAM, stream]).permutation(count)
