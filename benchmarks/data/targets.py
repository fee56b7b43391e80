"""Target returns that follow from a data set by one rule, for suites whose tables declare none."""

from __future__ import annotations

import numpy as np

from backbench.benchmarks.data.trajectories import Trajectories

SHARES = (0.95, 0.5)  # of steps; the headline's first


def by_rule(data: Trajectories, clipped: bool = False) -> tuple[float, ...]:
    """The returns that 95 % and half of the data's steps do not exceed, each step counted with its episode's return.

    Rounded to three digits. One target where both are the same. A quantile of episodes would be low where bad ones
    are short and many; half of the first would be the better one where returns are negative.

    Args:
        data: the data set.
        clipped: returns of rewards that are clipped to [-1, 1] each.
    """
    starts = data.offsets[:-1]
    returns = data.clipped_returns_to_go[starts].astype(float) if clipped else data.returns
    order = np.argsort(returns, kind="stable")
    below = np.cumsum(data.lengths[order]) / len(data.rewards)
    found = [returns[order[min(int(np.searchsorted(below, share)), len(order) - 1)]] for share in SHARES]
    return tuple(dict.fromkeys(float(f"{value:.3g}") for value in found))
