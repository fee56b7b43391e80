"""Target returns derived from a data set by one rule, for suites that declare none."""

from __future__ import annotations

import numpy as np

from backbench.benchmarks.data.trajectories import Trajectories

SHARES = (0.95, 0.5)  # of steps, the headline target first


def by_rule(data: Trajectories, clipped: bool = False) -> tuple[float, ...]:
    """The 95 % and 50 % quantiles of returns, weighted by steps, to three significant digits. If equal, one.

    Unweighted quantiles would be low in data sets with many short, bad episodes. Half of the first target would be the
    better of the two if returns are negative. ``clipped``: of rewards clipped to [-1, 1] each.
    """
    starts = data.offsets[:-1]
    returns = data.clipped_returns_to_go[starts].astype(float) if clipped else data.returns
    order = np.argsort(returns, kind="stable")
    below = np.cumsum(data.lengths[order]) / len(data.rewards)
    found = [returns[order[min(int(np.searchsorted(below, share)), len(order) - 1)]] for share in SHARES]
    return tuple(dict.fromkeys(float(f"{value:.3g}") for value in found))
