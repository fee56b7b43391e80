"""The causal check: what a policy does when its past, beyond a lag, is that of another episode."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.benchmarks.studies.reach.layers import chosen, evaluating
from backbench.errors import require


@dataclass(frozen=True)
class Causal:
    """Means over queries, pairs of a window and a step t of it. Row i keeps the steps from t - lags[i] to t.

    Everything older comes from another episode. The first row, lag -1, keeps nothing.
    """

    lags: NDArray[np.int64]  # (n,) ascending, the first is -1
    # (n,) change of the action: total variation of discrete probabilities, root mean square over a vector's numbers.
    change: NDArray[np.float64]
    flips: NDArray[np.float64] | None  # (n,) how often the likeliest discrete action is another; None for vectors
    loss: NDArray[np.float64]  # (n,) rise of the head's loss of the recorded action: of -log p, or of squared errors
    queries: int

    @property
    def effect(self) -> NDArray[np.float64]:
        """(n - 1,) of lags[1:]: how much less the action changes once the steps of this lag are kept too.

        They are those from t - lags[i + 1] up to, without it, t - lags[i]. With all lags, entry k is the weight of k.
        """
        return -np.diff(self.change)


def causal(
    agent: Agent, windows: Windows, others: Windows, at: Tensor | None = None, lags: Sequence[int] | None = None
) -> Causal:
    """Replace returns, states and actions of steps before t - k by those of ``others``, and compare the actions of t.

    ``others`` has a window of another episode in each row, and lends it at equal positions. Timesteps stay. Queries are
    the steps ``at`` (batch, K) that are real in both, None for all. Where nothing is older than k, nothing changes.
    ``lags`` are 0 to K - 1 by default. Takes a forward pass for each step up to which a past is replaced, at most K.
    Raises UserError: other shapes, lags that the windows do not have, or no query.
    """
    kept = chosen(windows, at, others)
    K = kept.shape[1]
    asked = np.arange(K) if lags is None else np.unique(np.asarray(lags, dtype=np.int64))
    fits = len(asked) > 0 and asked[0] >= 0 and asked[-1] < K
    given = f"lags {asked[0]} to {asked[-1]}" if len(asked) else "no lags"
    require(fits, f"{given}: windows of {K} steps have lags 0 to {K - 1}; give those, or longer windows")
    asked = np.concatenate([[-1], asked])
    steps = [int(step) for step in torch.nonzero(kept.any(0)).flatten()]
    sums = np.zeros((3, len(asked)))
    with evaluating(agent), torch.no_grad():
        truth = _output(agent, windows)
        for end in sorted({step - int(lag) for step in steps for lag in asked if step > lag}):
            output = _output(agent, _replaced(windows, others, end))
            for step in steps:
                row = int(np.searchsorted(asked, step - end))
                if row < len(asked) and asked[row] == step - end:
                    real = kept[:, step]
                    actions = windows.actions[real, step]
                    sums[:, row] += _compare(agent, truth[real, step], output[real, step], actions)
    require(bool(np.isfinite(sums).all()), "actions are not finite; look at the agent's weights")
    queries = int(kept.sum())
    change, flips, loss = sums / queries
    return Causal(asked, change, flips if agent.head.discrete else None, loss, queries)


def _output(agent: Agent, windows: Windows) -> Tensor:
    return agent(windows.returns_to_go, windows.states, windows.actions, windows.timesteps)  # type: ignore[no-any-return]


def _replaced(windows: Windows, others: Windows, end: int) -> Windows:
    """``windows`` with the contents of ``others`` in the steps before ``end``."""
    joined = {
        name: torch.cat((getattr(others, name)[:, :end], getattr(windows, name)[:, end:]), 1)
        for name in ("returns_to_go", "states", "actions")
    }
    return replace(windows, **joined)


def _compare(agent: Agent, before: Tensor, after: Tensor, actions: Tensor) -> tuple[float, float, float]:
    """Sums over queries of the change, the flips and the rise of the loss; outputs are (queries, out)."""
    count = len(before)
    everywhere = torch.ones(1, count, dtype=torch.bool, device=before.device)
    old, new = (float(agent.head.loss(part[None], actions[None], everywhere)) for part in (before, after))
    if agent.head.discrete:
        first, second = before.double().softmax(-1), after.double().softmax(-1)
        change = (first - second).abs().sum(-1) / 2
        flips = (before.argmax(-1) != after.argmax(-1)).sum()
        return float(change.sum()), float(flips), count * (new - old)
    change = (before - after).double().square().mean(-1).sqrt()
    return float(change.sum()), 0.0, count * (new - old)
