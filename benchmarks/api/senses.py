"""From what an environment gives to what an agent sees, as in an evaluation, for rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.observe import PLAYED, Observe, See
from backbench.errors import UserError, require
from backbench.leaderboard.record.fields import MOST
from backbench.text import plain

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell


class Vectors:
    """Any observation of ``space`` as one vector, which the suite's filter changes."""

    def __init__(self, space: Any, observe: Observe | None) -> None:
        self.space = space
        self.observe = observe or Observe()
        self.views: list[See] = []

    def start(self, seeds: Sequence[int]) -> None:
        """Begin episodes. Their seeds say at which steps observations are missing, if the filter hides some."""
        self.views = [self.observe.episode(PLAYED, seed) for seed in seeds]

    def look(self, observations: Sequence[Any]) -> NDArray[Any]:
        """(n, size) from n observations. UserError, and nothing has changed, if one is not of the space."""
        vectors = [self._vector(one) for one in observations]
        return np.concatenate([see(one[None]) for see, one in zip(self.views, vectors, strict=True)])

    def keep(self, rows: Sequence[int]) -> None:
        self.views = [self.views[row] for row in rows]

    def _vector(self, observation: Any) -> NDArray[Any]:
        try:
            vector = spaces.flatten(self.space, observation, one=True)
        except UserError:
            raise
        except (IndexError, KeyError, TypeError, ValueError):
            vector = np.empty(0)
        require(
            vector.shape == (spaces.size(self.space),),
            f"act: an observation has the shape {shape_of(observation)}, and the agent takes {said(self.space)}; "
            "agent.check(env) compares the spaces",
        )
        finite = vector.dtype.kind in "fiub" and bool((np.abs(vector.astype(np.float64)) <= MOST).all())
        require(finite, f"act: an observation has NaN, a number beyond {MOST:g}, or no numbers")
        return vector


class Pixels:
    """The newest frames of a game, stacked. The first frame stands for those before the episode, as in the data."""

    def __init__(self, stack: int, size: int) -> None:
        self.stack, self.size = stack, size
        self.frames: NDArray[np.uint8] | None = None  # (n, stack, size, size)

    def start(self, seeds: Sequence[int]) -> None:
        self.frames = None

    def look(self, observations: Sequence[Any]) -> NDArray[Any]:
        """uint8 (n, stack, size, size) from n frames (size, size), or n stacks of them with the newest one last."""
        newest = np.stack([self._newest(one) for one in observations])[:, None]
        before = np.repeat(newest, self.stack, axis=1) if self.frames is None else self.frames
        self.frames = np.concatenate([before[:, 1:], newest], axis=1)
        return self.frames

    def keep(self, rows: Sequence[int]) -> None:
        self.frames = None if self.frames is None else self.frames[list(rows)]

    def _newest(self, observation: Any) -> NDArray[np.uint8]:
        frames = np.asarray(observation)
        side = (self.size, self.size)
        fits = frames.dtype == np.uint8 and frames.shape in (side, (self.stack, *side))
        require(
            fits,
            f"act: an observation is {frames.dtype} {frames.shape}, and the agent takes frames, uint8 {side}, or "
            f"{(self.stack, *side)} with the newest one last",
        )
        return frames if frames.ndim == 2 else frames[-1]


def rows_of(observation: Any, count: int) -> list[Any]:
    """The observations of ``count`` environments: rows of an array, items of a list, or a mapping of such arrays."""
    if isinstance(observation, Mapping):
        parts = {key: rows_of(value, count) for key, value in observation.items()}
        return [{key: rows[row] for key, rows in parts.items()} for row in range(count)]
    try:
        rows = list(observation)
    except TypeError:
        rows = []
    require(len(rows) == count, f"act: give {count} observations, one a row; got the shape {shape_of(observation)}")
    return rows


def shape_of(observation: Any) -> Any:
    """What a message says of the shape of any value."""
    if isinstance(observation, Mapping):
        return {str(key): shape_of(value) for key, value in observation.items()}
    if observation is None:
        return "of None"
    try:
        return np.shape(observation)
    except ValueError:
        return f"of a ragged {type(observation).__name__}"


def said(space: Any) -> str:
    """A space in a message: as Gymnasium prints it, or the shapes of its parts where that is long."""
    text = plain(str(space))
    if len(text) <= 100:
        return text
    parts = ", ".join(f"{name} {leaf.shape}".strip() for name, leaf, _ in spaces.leaves(space, None))
    return f"{type(space).__name__} of {parts}"[:300]


def spaces_of(cell: Cell) -> tuple[Any, Any]:
    """Gymnasium's spaces of the environment of a cell: (observations, actions). UserError if it cannot be made here."""
    from gymnasium.spaces import Box, Discrete

    from backbench.benchmarks.plan import suites

    if cell.kind.frames:
        shape, n_actions, _ = cell.kind.sizes(cell.environment)
        return Box(0, 255, shape, np.uint8), Discrete(n_actions)
    table = suites.table(cell.task.suite) if cell.task.suite in suites.built_in() else None
    cell.kind.probe(cell.environment, table.requires if table else "", table.remedy if table else "")
    from backbench.benchmarks.environments.vector import make_environment

    env = make_environment(cell.task.env_id, cell.task.env_kwargs)
    found = env.observation_space, env.action_space
    env.close()
    return found


def differences(theirs: tuple[Any, Any], mine: tuple[Any, Any], frames: bool) -> list[str]:
    """What differs between the spaces (observations, actions) of an environment and those of an agent."""
    (seen, done), (takes, gives), found = theirs, mine, []
    alike = seen.shape in (takes.shape, takes.shape[1:]) if frames else _layout(seen) == _layout(takes)
    if not alike:
        found.append(f"observations {said(seen)}, and the agent takes {said(takes)}")
    if _range(done) != _range(gives):
        found.append(f"actions {said(done)}, and the agent gives {said(gives)}")
    return found


def _layout(space: Any) -> list[tuple[str, Any]]:
    """Name of each part of a space of observations, and its shape or numbers; the bounds of vectors do not matter."""
    parts = spaces.leaves(space, None)
    return [(name, leaf.shape if type(leaf).__name__ == "Box" else str(leaf)) for name, leaf, _ in parts]


def _range(space: Any) -> Any:
    """What makes two spaces of actions equal."""
    if type(space).__name__ != "Box":
        return str(space)
    return space.shape, np.round([space.low, space.high], 6).tolist()
