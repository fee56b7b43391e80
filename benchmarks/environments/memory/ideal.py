"""The loss of the ideal predictor of an oracle's actions: on average, no model is below it.

In each episode a share p of the oracle's actions is random, with p drawn evenly from ``noise`` and hidden. With n
actions, an action is the oracle's with probability c = 1 - p + p/n, and each other one with p/n, independently given p.
All that is seen up to a prediction tells the oracle's action there. So only whether the action is the oracle's (right)
is uncertain, and the others share the rest evenly. Let q be the number of questions left, this one included. Then

    P(right | seen) = sum of w(p, q) g(p, q) / sum of w(p, q).

* ``s``: past actions are hidden, so w = 1 and g = c.
* ``sa``: w = c^right (1-c)^wrong over the past actions. Constant factors of w are left out.
* With ``r``, R_t says that k of the q questions will be right. w has the factor Binomial(k; q, c). At a question
  g = k/q, as every order of k right and q - k wrong answers is equally likely given p. Elsewhere g = c.
* ``rs``: R_1 .. R_t tell which past questions were right and no other action: w counts the past questions alone.

In parity and count the number Q of an episode's questions varies. So w has the factor P(q | questions so far), and is
zero where R_t is no multiple of 1/Q. A right answer shows 1/Q, so after one w is zero for every other Q.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.memory.script import GRID, NONE, MemoryTask, Numbers
from backbench.benchmarks.environments.memory.tasks import LONGEST_GAP, Counter

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LAYOUTS = ("s", "sa", "rs", "rsa")  # values of ``model.tokens``


def ideal_loss(
    task: MemoryTask, episodes: Iterable[tuple[Numbers, Numbers]], noise: Sequence[float], layout: str
) -> float:
    """Mean over all steps of -log P(a_t | seen), in nats. For windows that hold their episode.

    ``episodes`` are (right answers, NONE where nothing is asked, and actions), (T,) each. ``noise`` are the shares p.
    """
    return float(np.mean([step_losses(task, *episode, noise, layout) for episode in episodes]))


def step_losses(task: MemoryTask, answers: Numbers, actions: Numbers, noise: Sequence[float], layout: str) -> Floats:
    """(T,) -log P(a_t | seen) of one episode. Infinite from where no oracle of ``noise`` acts as this one did."""
    asked, right = answers != NONE, actions == 1 + answers
    n = 1 + task.answers
    chance = np.array([1 - p + p / n for p in noise])[:, None]  # (noise, 1)
    visible = np.full(len(asked), True) if "a" in layout else asked & ("r" in layout)
    weight = _log(chance, _before(right & visible), _before(~right & visible))[..., None]  # (noise, T, 1)
    hit = np.broadcast_to(chance[..., None], weight.shape)
    if "r" in layout:
        left, k = _questions(task, asked, right)
        q = np.arange(left.shape[1])
        with np.errstate(divide="ignore"):
            weight = weight + np.log(left) + _binomial(q, k) + _log(chance[..., None], k, q - k)
        hit = np.where(asked[:, None], k / np.maximum(q, 1), hit)
    most = weight.max(axis=(0, 2), keepdims=True)
    w = np.exp(weight - np.where(np.isfinite(most), most, 0.0))
    total = w.sum(axis=(0, 2))
    p_right = (w * hit).sum(axis=(0, 2)) / np.where(total > 0, total, 1.0)
    with np.errstate(divide="ignore"):
        losses = -np.log(np.where(right, p_right, (1 - p_right) / task.answers))
    return np.where(total > 0, losses, np.inf)


def _before(marks: Bools) -> NDArray[np.int64]:
    """(T,) how many marks there are before each step."""
    return np.cumsum(marks) - marks


def _log(chance: Floats, right: NDArray[np.int64], wrong: NDArray[np.int64]) -> Floats:
    """log of chance^right (1-chance)^wrong, where 0^0 = 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(right, right * np.log(chance), 0.0) + np.where(wrong, wrong * np.log(1 - chance), 0.0)


def _binomial(q: NDArray[np.int64], k: NDArray[np.int64]) -> Floats:
    """log of the number of ways to choose k of q."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, q.max() + 1)))])  # of factorials
    chosen: Floats = logs[q] - logs[k] - logs[q - k]
    return chosen


def _questions(task: MemoryTask, asked: Bools, right: Bools) -> tuple[Floats, NDArray[np.int64]]:
    """(T, q) probability that q questions are left, given what is seen, and how many of these R_t says are right.

    R_t is compared as float32, which is what a model gets. Where it excludes q, the probability is 0, and so is k.
    """
    so_far, won = _before(asked), _before(asked & right)
    count, later = int(asked.sum()), int((asked & right).sum()) - won  # later: right ones from t on
    left = _left(task, asked)
    q = np.arange(left.shape[1])
    total = np.maximum(so_far[:, None] + q, 1)  # (T, q) questions of the episode, if q are left
    seen = (later * (GRID // count) / GRID).astype(np.float32)[:, None]
    k = np.rint(seen * total).astype(np.int64)
    same = ((k * (GRID // total) / GRID).astype(np.float32) == seen) & (k <= q)
    same &= (won[:, None] == 0) | (total == count)
    return left * same, np.where(same, k, 0)


def _left(task: MemoryTask, asked: Bools) -> Floats:
    """(T, q) probability of q questions from step t on, given which of the steps up to t asked."""
    if not isinstance(task, Counter):  # always at the same steps
        left = np.cumsum(asked[::-1])[::-1]
        return np.asarray(left[:, None] == np.arange(left[0] + 1), dtype=np.float64)
    begins = np.concatenate([[0], np.flatnonzero(asked) + 1])  # of segments, which end with a question
    begin = begins[_before(asked)]
    return np.stack([_of_segment(task.steps, int(b), t, bool(asked[t])) for t, b in enumerate(begin)])


@lru_cache(maxsize=100_000)
def _of_segment(steps: int, begin: int, t: int, asked: bool) -> Floats:
    """(q,) probability of q questions from step t on, in a segment of ``Counter`` that began at ``begin``, and later.

    Its question is at t if ``asked``, else after t.
    """
    found = np.zeros(steps // 2 + 1)
    if begin + 1 >= steps:  # no room for another question
        found[0] = 1.0
        return found
    ends = [min(begin + gap, steps - 1) for gap in range(1, LONGEST_GAP + 1)]
    ends = [end for end in ends if (end == t if asked else end > t)]
    for end in ends:
        found[1:] += _of_segment(steps, end + 1, end + 1, False)[:-1] / len(ends)
    return found
