"""Which episodes of the DQN-replay logs make a data set, chosen from the small arrays alone.

The rule is Decision Transformer's (arXiv:2106.01345) for its 1 % of the logs (arXiv:1907.04543): pick one of the run's
buffers at random, take its next few episodes, and repeat until there are enough transitions. That code takes one
episode too many per visit. If a visit reaches a buffer's end, it drops the transitions but keeps the ends of their
episodes. Here a visit takes the right number of episodes, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.errors import DataError

BUFFERS = 50  # in a run
RUNS = 5
WINDOW = 100_000  # entries of each buffer, from its start, that are used
PADDING = 3  # entries of zeros before an episode: the stack of four frames of the logging agent, less one

Span = tuple[int, int]  # an episode's first entry, and the one after its last


@dataclass(frozen=True)
class Choice:
    """What to take out of a game's logs."""

    # Least number of transitions. The last visit is complete.
    transitions: int = 500_000
    # Seed of the order of visits.
    seed: int = 0
    # One of the five agents trained on a game.
    run: int = 1
    # Episodes that a visit takes.
    trajectories_per_buffer: int = 10
    # Number of the run's last buffers to visit.
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
        """The set's id: ``dqn-replay/breakout/1pct-v0``, with what differs from the default before the version."""
        names = {
            "transitions": "", "seed": "seed", "run": "run", "trajectories_per_buffer": "per", "buffers": "last"
        }  # fmt: skip
        parts = [f"-{names[f.name]}{getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"dqn-replay/{game}/1pct{''.join(parts)}-v0"


@dataclass(frozen=True)
class Log:
    """The small arrays of one buffer, or of its first entries.

    Attributes:
        buffer: its number, in the order of training.
        actions: (n,) int32.
        rewards: (n,) float32, clipped to [-1, 1].
        terminals: (n,) bool, true at an episode's last step.
        size: entries in the complete buffer.
    """

    buffer: int
    actions: NDArray[np.int32]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    size: int

    @cached_property
    def episodes(self) -> list[Span]:
        """The complete episodes, in order.

        A buffer continues the one before it, mostly in the middle of an episode. So the episode before the first
        terminal lacks its start, except in a run's first buffer. The entries after the last terminal lack an end.
        """
        ends = (np.flatnonzero(self.terminals) + 1).tolist()
        return list(pairwise([0, *ends] if self.buffer == 0 else ends))

    def may_be_padded(self, first: int) -> bool:
        """Whether the episode at ``first`` may begin with padding. Its frames decide."""
        head = slice(first, first + PADDING)
        return not (self.actions[head].any() or self.rewards[head].any() or self.terminals[head].any())


@dataclass(frozen=True)
class Visit:
    """Episodes taken from a buffer at one time."""

    buffer: int
    episodes: tuple[Span, ...]


def select(choice: Choice, load: Callable[[int], Log]) -> tuple[list[Visit], dict[int, Log]]:
    """The visits, in the order in which they were sampled, and the logs of their buffers.

    Each visit takes the next ``trajectories_per_buffer`` complete episodes of its buffer. A buffer with fewer left is
    not visited again. Padding, or what may be padding, does not count as transitions.

    Args:
        choice: how much to take. The result depends only on it and the logs.
        load: gives the log of a buffer. Called once for each buffer that is sampled.

    Raises:
        DataError: the buffers do not hold enough transitions.
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
                f"of {choice.trajectories_per_buffer} complete episodes; {choice.transitions:,} were requested; "
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
