"""Find what is wrong or odd in a data set of the store, with one episode in memory at a time."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import metadata
from backbench.benchmarks.data.store.episodes import Episodes, opened
from backbench.benchmarks.data.trajectories import figures
from backbench.benchmarks.environments import spaces
from backbench.errors import UserError, one_line

Level = Literal["error", "warning"]
LINES = 5  # shown of each kind of finding; the others are counted
ROUNDING = 1e-6  # relative error of a recorded figure, and by which an action may exceed a bound
FLAGS = ("terminations", "truncations")
MUJOCO = re.compile(r"(HalfCheetah|Hopper|Walker2d|Ant|Humanoid|Swimmer)-v\d+")
MUJOCO_LIMIT = 1000  # time limit of these, if the data set records none
Leaf = tuple[str, Any, NDArray[Any]]  # name, space, array


@dataclass(frozen=True)
class Finding:
    """One line about a data set. An error makes it unusable. A warning is for the user to judge."""

    level: Level
    message: str


class Findings:
    """Messages by kind, so that one fault in every episode does not hide the others."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Level, str], list[str]] = {}

    def _add(self, level: Level, kind: str, message: str) -> None:
        self._kinds.setdefault((level, kind), []).append(message)

    error = partialmethod(_add, "error")
    warning = partialmethod(_add, "warning")

    def lines(self) -> list[Finding]:
        """All findings, errors first."""
        found = []
        for (level, kind), messages in sorted(self._kinds.items(), key=lambda item: item[0][0]):
            more = [f"and {len(messages) - LINES} more: {kind}"] if len(messages) > LINES else []
            found += [Finding(level, message) for message in messages[:LINES] + more]
        return found


@dataclass
class EpisodeChecks:
    """Findings about episodes. Keeps a hash and a return of each, and the range of each column."""

    episodes: Episodes
    found: Findings
    limit: int | None
    with_digest: bool
    digest: Any = field(default_factory=hashlib.sha256)
    complete: bool = True  # no episode was skipped, so that hash and figures are meaningful
    steps: int = 0
    returns: list[float] = field(default_factory=list)
    first_of: dict[bytes, int] = field(default_factory=dict)
    twins: list[tuple[int, int]] = field(default_factory=list)
    ranges: dict[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

    def episode(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Check an episode, of which ``attributes`` are recorded."""
        try:
            self.complete &= self._episode(number, attributes)
        except Exception as error:  # h5py, Gymnasium and Minari raise many kinds for a broken file
            self.complete = False
            self.found.error("cannot be read", f"episode {number} cannot be read: {one_line(error)}")

    def _episode(self, number: int, attributes: Mapping[str, Any]) -> bool:
        e, about = self.episodes.read(number), self.episodes.metadata
        of = {"observations": about.observations, "actions": about.actions}
        observations, actions = (
            [(name, leaf, np.asarray(array)) for name, leaf, array in spaces.leaves(space, e[key], f"{key}.")]
            for key, space in of.items()
        )
        rewards = np.asarray(e["rewards"], dtype=np.float64)
        flags = [np.asarray(e[flag], dtype=bool) for flag in FLAGS]
        steps, where = len(rewards), f"episode {number}"
        self.steps += steps
        if steps == 0:
            self.found.error("zero-length", f"{where} has no steps")
            return False
        said = int(attributes.get("total_steps", steps))
        if said != steps:
            self.found.error("counts", f"{where} has {steps:,} steps where its attribute says {said:,}")
        named = [(name, array) for name, _, array in (*observations, *actions)] + [("rewards", rewards)]
        expected = [steps + 1] * len(observations) + [steps] * (len(actions) + 1 + len(FLAGS))
        good = True
        for (name, array), length in zip([*named, *zip(FLAGS, flags, strict=True)], expected, strict=True):
            if array.shape[:1] != (length,):
                good = False
                self.found.error("lengths", f"{where} has {len(array):,} {name}; expected {length:,}")
        for name, space, array in (*observations, *actions):
            if space.shape is not None and array.shape[1:] != space.shape:
                good = False
                self.found.error("shapes", f"{where} has {name} of shape {array.shape[1:]}, not {space.shape}")
        finite = True
        for name, array in named:
            if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                finite, step = False, int(np.argwhere(~np.isfinite(array))[0][0])
                self.found.error("NaN", f"{where}, step {step}: NaN or infinite {name}")
        self._ends(where, *flags)
        if self.limit is not None and steps > self.limit:
            self.found.warning("too long", f"{where} has {steps:,} steps; the time limit is {self.limit:,}")
        discrete = [leaf for leaf in observations if good and isinstance(leaf[1], Discrete | MultiDiscrete)]
        for name, space, array in discrete:
            if _outside(space, array):
                good = False
                self.found.error("outside", f"{where} has {name} outside {space}")
        if good:
            for name, space, array in actions:
                if excess := _outside(space, array):
                    self.found.warning("outside", f"{where} has {name} outside their space, by up to {excess:.3g}")
            self._columns(observations)
            self._remember(number, e, named, bool(flags[0].any()))
        return good and finite

    def _ends(self, where: str, terminations: NDArray[np.bool_], truncations: NDArray[np.bool_]) -> None:
        for word, flags in (("terminated", terminations), ("truncated", truncations)):
            if flags[:-1].any():
                step = int(np.argmax(flags))
                self.found.warning("early end", f"{where} is {word} at step {step} but continues to {len(flags) - 1}")
        ends = [bool(flags[-1:].any()) for flags in (terminations, truncations)]
        if not any(ends):
            self.found.warning("incomplete", f"{where} is neither terminated nor truncated at its end")
        if all(ends):
            self.found.warning("both", f"{where} is both terminated and truncated at its end")

    def _columns(self, observations: list[Leaf]) -> None:
        """Extend the range of every column of numbers. Images are skipped."""
        for name, _, array in observations:
            if array.ndim in (1, 2) and np.issubdtype(array.dtype, np.number):
                low, high = self.ranges.get(name, (array[0], array[0]))
                self.ranges[name] = np.minimum(low, array.min(axis=0)), np.maximum(high, array.max(axis=0))

    def _remember(self, number: int, e: Any, named: list[tuple[str, NDArray[Any]]], terminated: bool) -> None:
        content, rewards = hashlib.sha256(), named[-1][1]
        for name, array in named:
            content.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
        first = self.first_of.setdefault(content.digest(), number)
        if first != number:
            self.twins.append((first, number))
        self.returns.append(float(np.add.reduce(rewards)))
        if self.with_digest:  # as in Trajectories.from_episodes
            flat = self.episodes.vectors(e["observations"])
            for label, array in (("observations", flat), ("actions", np.asarray(e["actions"])), ("rewards", rewards)):
                self.digest.update(f"{label} {array.dtype.str} {array.shape};".encode())
                self.digest.update(np.ascontiguousarray(array).tobytes())
            self.digest.update(b"terminated" if terminated else b"truncated")

    def finish(self) -> None:
        """Add the findings that need all episodes."""
        if self.twins:
            (first, second), count = self.twins[0], len(self.twins)
            self.found.warning("equal", f"episodes {first} and {second} are equal; {count:,} repeat an earlier one")
        for name, (low, high) in self.ranges.items():
            same = np.flatnonzero(np.equal(low, high))
            if len(same):
                columns = f", columns {', '.join(map(str, same))}" if np.ndim(low) else ""
                self.found.warning("constant", f"{name}{columns}: always the same")


def _outside(space: Any, actions: NDArray[Any]) -> float:
    """How far the worst action is outside its space: 0 if none is, or if the space has no bounds."""
    if isinstance(space, Box):
        low, high = space.low, space.high
    elif isinstance(space, Discrete | MultiDiscrete):
        low, high = space.start, space.start + (space.n if isinstance(space, Discrete) else space.nvec) - 1
    else:
        return 0.0
    low, high, actions = (np.asarray(a, dtype=np.float64) for a in (low, high, actions))
    slack = ROUNDING * np.maximum(1.0, np.where(np.isfinite(low) & np.isfinite(high), np.maximum(-low, high), 1.0))
    excess = np.maximum(low - actions, actions - high)
    return float(np.max(excess, initial=0.0, where=excess > slack))


def inspect(name: str) -> list[Finding]:
    """Everything that is wrong or odd in a data set of the store, errors first. DataError if there is none."""
    store.check_there(name)
    try:
        recorded = store.sidecar(name)
        if "frames" not in recorded:
            return examine(store.path_of(name), recorded)
        found = Findings()
        _compare_figures(recorded, store.read(name).summary(), found)
        return found.lines()
    except DataError as error:
        return [Finding("error", str(error))]


def examine(folder: Path, recorded: Mapping[str, Any] | None) -> list[Finding]:
    """What ``inspect`` finds in any folder of vectors. ``recorded`` is the sidecar, {} if absent, None to skip it."""
    found = Findings()
    try:
        about = metadata.read(folder / "data")
        try:
            spaces.check_observations(about.observations, "it")
        except UserError as error:
            return [Finding("warning", f"its episodes were not checked: {error}")]
        spec = about.specification()
        said, known = spec.get("max_episode_steps"), MUJOCO_LIMIT if MUJOCO.fullmatch(str(spec.get("id"))) else None
        limit = said if type(said) is int and said > 0 else known
        with opened(about) as episodes:
            groups = episodes.attributes()
            checks = EpisodeChecks(episodes, found, limit, with_digest=bool(recorded))
            _compare_ids(groups, about.episodes, found)
            for number, attributes in sorted(groups.items()):
                checks.episode(number, attributes)
    except UserError as error:
        return [Finding("error", f"cannot be read: {one_line(error)}")]
    checks.finish()
    if checks.steps != about.steps:
        found.error("counts", f"it holds {checks.steps:,} steps where its metadata say {about.steps:,}")
    if recorded and checks.complete and checks.returns:
        if (digest := checks.digest.hexdigest()) != recorded.get("digest"):
            found.error("hash", f"its hash is {digest}; {store.SIDECAR} says {recorded.get('digest')}")
        if recorded.get("spaces", about.spaces_digest) != about.spaces_digest:
            found.error("spaces", f"its spaces are not those of which {store.SIDECAR} has the hash")
        _compare_figures(recorded, figures(np.asarray(checks.returns), checks.steps), found)
    if recorded == {}:
        found.warning("no sidecar", f"its hash was never recorded: no {store.SIDECAR} lies beside it; records have it")
    return found.lines()


def _compare_ids(groups: Mapping[int, Mapping[str, int]], total: int, found: Findings) -> None:
    if len(groups) != total:
        found.error("counts", f"it holds {len(groups):,} episodes where its metadata say {total:,}")
    for number in sorted(set(range(min(total, len(groups) + LINES + 1))) - set(groups)):
        found.error("ids", f"episode {number} is missing")
    seen: dict[int, int] = {}
    for number, attributes in sorted(groups.items()):
        said = int(attributes.get("id", number))
        if said in seen:
            found.error("ids", f"episodes {seen[said]} and {number} both have the id {said}")
        elif said != number:
            found.error("ids", f"episode {number} has the id {said}")
        seen.setdefault(said, number)


def _compare_figures(recorded: Mapping[str, Any], figures: Mapping[str, float], found: Findings) -> None:
    size = max((abs(float(value)) for key, value in figures.items() if key.startswith("return_")), default=0.0)
    for key, value in figures.items():
        said = recorded.get(key)
        # A mean near zero is a difference of large numbers, so its error is compared with those.
        if not isinstance(said, int | float) or not math.isclose(said, value, rel_tol=ROUNDING, abs_tol=1e-9 * size):
            found.error("figures", f"{store.SIDECAR} says {key} {said!r}; it is {value!r}")
