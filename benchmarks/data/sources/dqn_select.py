"""Which episodes of the DQN-replay logs make a data set, chosen from the small arrays alone.

The rule is Decision Transformer's (arXiv:2106.01345): pick one of the run's buffers at random, take its next few
episodes, and repeat until there are enough transitions. Its code takes one episode too many per visit, and at a
buffer's end keeps the ends of episodes that it drops. Here a visit takes the right number of episodes, or none.
"""

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

    transitions: int = 500_000  # least number; the last visit is complete
    seed: int = 0  # of the order of visits
    run: int = 1  # one of the five agents trained on a game
    trajectories_per_buffer: int = 10  # episodes that a visit takes
    buffers: int = BUFFERS  # number of the run's last buffers to visit

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
        names = {"transitions": "", "trajectories_per_buffer": "per", "buffers": "last"}
        differs = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        parts = [f"-{names.get(name, name)}{value}" for name, value in differs.items()]
        return f"dqn-replay/{game}/1pct{''.join(parts)}-v0"


@dataclass(frozen=True)
class Log:
    """The small arrays of one buffer, or of its first n entries."""

    buffer: int  # its number, in the order of training
    actions: NDArray[np.int32]  # (n,)
    rewards: NDArray[np.float32]  # (n,), clipped to [-1, 1]
    terminals: NDArray[np.bool_]  # (n,), true at an episode's last step
    size: int  # entries in the complete buffer

    @cached_property
    def episodes(self) -> list[Span]:
        """The complete episodes, in order.

        A buffer continues the one before it. So the episode before the first terminal lacks its start, except in the
        first buffer. The entries after the last terminal lack an end.
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
    not visited again. Padding does not count as transitions. ``load`` is called once for each buffer that is sampled.
    """
    rng = np.random.default_rng(choice.seed)
    left = list(range(BUFFERS - choice.buffers, BUFFERS))
    logs, taken, visits, transitions = dict[int, Log](), dict[int, int](), list[Visit](), 0
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
