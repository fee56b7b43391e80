"""Recall density: how much the action of step t changes with the tokens of step t - k, by gradients.

It is comparable between all backbones, because it asks the complete agent. Attention distance is for transformers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.backbones.mixers.transformer import Transformer
from backbench.benchmarks.studies.reach.layers import chosen, embedded, evaluating, inputs, mixers, policy
from backbench.errors import require

MOST = 8  # numbers of an action whose complete Jacobian is taken; of more, as many random projections
POINTS = 16  # of the line between two windows, at which gradients are taken


@dataclass(frozen=True)
class Density:
    """The mean over queries, pairs of a window and a step of it that is not silent."""

    share: NDArray[np.float64]  # (K,) of lag k, in environment steps; the sum is 1. A query at step t has none beyond t
    queries: int  # that were averaged
    silent: int  # queries left out, because no token changes their action
    # Mean over all queries of what their shares are of. Small against other agents or steps: shares say little.
    size: float

    def holds(self, part: float) -> int:
        """The smallest lag such that it and those below hold this ``part`` of the density, in (0, 1]."""
        require(0 < part <= 1, f"part of the density: {part}; give a number above 0, up to 1")
        # Sums of shares round: without the guard, part=1 might be found nowhere.
        return int(np.argmax(self.share.cumsum() >= part - 1e-9))


@dataclass(frozen=True)
class AttentionDistance:
    """Mean over queries of the distance from the state's token to the tokens that it attends to, by their weights."""

    layer: int
    head: int
    steps: float  # environment steps


def density(  # six settings of one measurement
    agent: Agent,
    windows: Windows,
    at: Tensor | None = None,
    others: Windows | None = None,
    projections: int = 0,
    seed: int = 0,
) -> Density:
    """The recall density over the windows' real steps ``at``, (batch, K) bool, None for all.

    The size of lag k at step t is the sum over the tokens of step t - k of the Frobenius norm of d action_t / d token.
    A token is what enters the backbone. An action is the head's output: the mean action, or logits less their mean.
    Sizes are normalised for each query, then averaged. ``projections``: estimate the norms from so many random
    directions of the action; 0 takes the complete Jacobian, or eight directions if an action has more than eight
    numbers.

    A gradient is local: a gate that holds a token well may be saturated, and then it hides it. With ``others``, windows
    of other episodes as in `causal`, a size is that of what the token adds to the difference between both actions,
    by integrated gradients (Sundararajan et al., arXiv:1703.01365) from the other window's tokens to the window's.
    A token that is equal in both then counts nothing.

    Takes a backward pass for each query of a window and number of an action, with ``others`` sixteen times as many.

    Raises UserError if ``at`` holds no real step, shapes differ, gradients are not finite, or all are zero.
    """
    require(projections >= 0, f"projections={projections}; give 0, for the Jacobian, or more")
    kept = chosen(windows, at, others)
    sizes = _sizes(agent, windows, others, kept, lambda actions: _directions(actions, projections, seed))
    require(bool(sizes.isfinite().all()), "gradients of actions are not finite; look at the agent's weights")
    K, share, queries, silent, size_of_all = kept.shape[1], np.zeros(kept.shape[1]), 0, 0, 0.0
    for size, (steps, real) in zip(sizes.view(*sizes.shape[:2], K, -1).sum(-1), _rounds(kept), strict=True):
        behind = (steps[real, None] - torch.arange(K, device=steps.device)).cpu()  # (queries, K): lag k -> its step
        of_lags = size[real.cpu()].gather(1, behind.clamp(min=0)).masked_fill(behind < 0, 0)
        total = of_lags.sum(1)
        felt = total > 0
        share += (of_lags[felt] / total[felt, None]).sum(0).numpy()
        queries, silent = queries + int(felt.sum()), silent + int((~felt).sum())
        size_of_all += float(total.sum())
    require(queries > 0, "recall density: no token changes any action at these steps; choose other steps")
    return Density(share / queries, queries, silent, size_of_all / (queries + silent))


def _sizes(
    agent: Agent, windows: Windows, others: Windows | None, kept: Tensor, axes: Callable[[Tensor], Tensor]
) -> Tensor:
    """(rounds, batch, tokens), double precision: how much each token moves the action of the round's query."""
    rounds, rows = list(_rounds(kept)), torch.arange(len(kept), device=kept.device)
    points = 1 if others is None else POINTS
    sizes: Tensor | None = None
    with evaluating(agent), torch.enable_grad():
        own = embedded(agent, windows).detach()
        change = None if others is None else own - embedded(agent, others).detach()
        for point in range(points):
            tokens = own if change is None else own - change * ((point + 0.5) / points)
            actions = policy(agent, tokens.requires_grad_())
            directions = axes(actions)
            if sizes is None:
                sizes = torch.zeros(len(rounds), len(directions), *tokens.shape[:2], dtype=torch.float64)
            for number, (steps, real) in enumerate(rounds):
                picked = actions[rows, steps][real]  # (queries, out)
                for axis, direction in enumerate(directions):
                    (grad,) = torch.autograd.grad((picked @ direction).sum(), tokens, retain_graph=True)
                    one = grad.double().norm(dim=-1) if change is None else (grad * change).double().sum(-1) / points
                    sizes[number, axis] += one.cpu()
    assert sizes is not None
    return sizes.square().sum(1).sqrt()


def attention_distances(agent: Agent, windows: Windows, at: Tensor | None = None) -> list[AttentionDistance]:
    """Of each layer and head with attention; empty if there is none. Queries are the state tokens of the steps ``at``.

    Raises UserError if ``at`` holds no real step.
    """
    kept = chosen(windows, at)
    states, found = agent.tokenizer.states, []
    with evaluating(agent), torch.no_grad():
        for layer, (mixer, x) in enumerate(zip(mixers(agent), inputs(agent, windows), strict=True)):
            if not isinstance(mixer, Transformer):
                continue
            place = (torch.arange(x.shape[1], device=x.device) // len(agent.tokenizer.kinds)).unsqueeze(1).to(x.dtype)
            # One window at a time: the weights of all would be batch x heads x length x length numbers.
            distances = [
                (place - mixer.attended(row.unsqueeze(0), place))[0, :, states, 0][:, real]
                for row, real in zip(x, kept, strict=True)
            ]
            means = torch.cat(distances, 1).double().mean(1)
            found += [AttentionDistance(layer, head, float(mean)) for head, mean in enumerate(means)]
    return found


def _directions(actions: Tensor, projections: int, seed: int) -> Tensor:
    """(n, out): the axes, or random signs. The squares of a Jacobian's projections add up to those of its norm."""
    out = actions.shape[-1]
    if not projections and out <= MOST:
        return torch.eye(out, dtype=actions.dtype, device=actions.device)
    count = projections or MOST
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(count, out))
    return torch.from_numpy(signs / count**0.5).to(actions)


def _rounds(kept: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """One query a window at a time: its step (batch,), and whether the window has one left."""
    order = kept.long().argsort(dim=1, descending=True, stable=True)  # chosen steps first, in order
    counts = kept.sum(1)
    for number in range(int(counts.max())):
        yield order[:, number], number < counts
