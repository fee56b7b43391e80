"""Which episodes of the DQN-replay logs make a data set, chosen from the small arrays alone.

The rule is that of the Decision Transformer (arXiv:2106.01345) for its 1 % of the logs (arXiv:1907.04543): pick one of
the run's buffers at random, take the next few episodes of it, and do so until there are enough transitions. Its code
takes one episode too many at each visit, and when a visit runs into a buffer's end it forgets the transitions but not
where their episodes ended. Here a visit takes what it should, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.trajectories import DataError

BUFFERS = 50  # that a run has left
RUNS = 5
WINDOW = 100_000  # entries of each buffer, from its begin, that are looked at
PADDING = 3  # entries of zeros that the logging agent put before an episode: its stack of four frames, less one

Span = tuple[int, int]  # an episode's first entry, and the one behind its last


@dataclass(frozen=True)
class Choice:
    """What to take out of a game's logs."""

    # At least so many transitions; the last visit is not cut.
    transitions: int = 500_000
    # Of the order of visits.
    seed: int = 0
    # One of the five agents that were trained on a game.
    run: int = 1
    # Episodes that a visit takes.
    trajectories_per_buffer: int = 10
    # So many of the run's last buffers are visited.
    buffers: int = BUFFERS

    def __post_init__(self) -> None:
        limits = {"transitions": (1, None), "seed": (0, None), "run": (1, RUNS), "buffers": (1, BUFFERS)}
        for field in fields(self):
            low, high = limits.get(field.name, (1, None))
            value = getattr(self, field.name)
            if value < low or (high is not None and value > high):
                allowed = f"from {low} to {high}" if high else f"{low} or more"
                raise DataError(f"dqn-replay: {field.name} is {value}; give {allowed}")

    def data_id(self, game: str) -> str:
        """The set's id: ``dqn-replay/breakout/1pct-v0``, and whatever is not the default before its version."""
        names = {
            "transitions": "", "seed": "seed", "run": "run", "trajectories_per_buffer": "per", "buffers": "last"
        }  # fmt: skip
        parts = [f"-{names[f.name]}{getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"dqn-replay/{game}/1pct{''.join(parts)}-v0"


@dataclass(frozen=True)
class Log:
    """The small arrays of one buffer, or of its begin.

    Attributes:
        buffer: its number, in the order of training.
        actions: (n,) int32.
        rewards: (n,) float32, clipped to [-1, 1].
        terminals: (n,) bool, true at an episode's last step.
        size: entries that the whole buffer has.
    """

    buffer: int
    actions: NDArray[np.int32]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    size: int

    @cached_property
    def episodes(self) -> list[Span]:
        """The whole episodes, in order.

        A buffer goes on where the one before it was logged, mostly in the middle of an episode, so that what lies
        before its first terminal has no begin; only a run's first buffer starts with an episode. What lies behind
        the last terminal has no end.
        """
        ends = (np.flatnonzero(self.terminals) + 1).tolist()
        return list(pairwise([0, *ends] if self.buffer == 0 else ends))

    def may_be_padded(self, first: int) -> bool:
        """Whether an episode that starts at ``first`` looks as if it began with padding; its frames decide."""
        head = slice(first, first + PADDING)
        return not (self.actions[head].any() or self.rewards[head].any() or self.terminals[head].any())


@dataclass(frozen=True)
class Visit:
    """Episodes that were taken from a buffer at one time."""

    buffer: int
    episodes: tuple[Span, ...]


def select(choice: Choice, load: Callable[[int], Log]) -> tuple[list[Visit], dict[int, Log]]:
    """The visits, in the order in which they were drawn, and the logs that they are to.

    Each visit takes the next ``trajectories_per_buffer`` whole episodes of its buffer, so that none is taken twice. A
    buffer that has not so many left is not visited again. Padding, or what may be padding, does not count as
    transitions.

    Args:
        choice: how much, and how it is drawn; the result depends on this and the logs alone.
        load: gives the log of a buffer; called once for each, and only for those that are drawn.

    Raises:
        DataError: the buffers do not hold so many transitions.
    """
    rng = np.random.default_rng(choice.seed)
    left = list(range(BUFFERS - choice.buffers, BUFFERS))
    logs: dict[int, Log] = {}
    taken: dict[int, int] = {}
    visits: list[Visit] = []
    transitions = 0
    while transitions < choice.transitions:
        if not left:
            raise DataError(
                f"dqn-replay: {choice.buffers} buffers of run {choice.run} give {transitions:,} transitions in visits "
                f"of {choice.trajectories_per_buffer} whole episodes, where {choice.transitions:,} were asked for; "
                "give fewer --transitions, or fewer --trajectories-per-buffer"
            )
        buffer = left[int(rng.integers(len(left)))]
        if buffer not in logs:
            logs[buffer] = load(buffer)
        log, begin = logs[buffer], taken.get(buffer, 0)
        chosen = log.episodes[begin : begin + choice.trajectories_per_buffer]
        if len(chosen) < choice.trajectories_per_buffer:
            left.remove(buffer)
            continue
        taken[buffer] = begin + len(chosen)
        visits.append(Visit(buffer, tuple(chosen)))
        transitions += sum(stop - start - PADDING * log.may_be_padded(start) for start, stop in chosen)
    return visits, logs
