"""What is wrong with a data set in the store, or odd about it, said line by line; one episode in memory at a time."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import DataError
from backbench.benchmarks.environments import spaces

Level = Literal["error", "warning"]

LINES = 5  # of each kind; the rest is counted
ROUNDING = 1e-6  # how far an action may be past a bound, or a noted figure off, relative to its size
FLAGS = ("terminations", "truncations")
MUJOCO = re.compile(r"(HalfCheetah|Hopper|Walker2d|Ant|Humanoid|Swimmer)-v\d+")
MUJOCO_LIMIT = 1000  # where a data set of one of these says none


@dataclass(frozen=True)
class Finding:
    """One line about a data set; an error makes it unfit, a warning is for somebody to judge."""

    level: Level
    message: str


class _Findings:
    """Messages by kind, so that one fault in every episode does not hide the others."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Level, str], list[str]] = {}

    def error(self, kind: str, message: str) -> None:
        self._kinds.setdefault(("error", kind), []).append(message)

    def warning(self, kind: str, message: str) -> None:
        self._kinds.setdefault(("warning", kind), []).append(message)

    def lines(self) -> list[Finding]:
        found = []
        for (level, kind), messages in sorted(self._kinds.items(), key=lambda item: item[0][0]):  # errors first
            more = [f"and {len(messages) - LINES} more: {kind}"] if len(messages) > LINES else []
            found += [Finding(level, message) for message in messages[:LINES] + more]
        return found


def inspect(name: str) -> list[Finding]:
    """Everything that is wrong with a data set in the store; errors first.

    Raises:
        DataError: there is no such set.
    """
    if not store.exists(name):
        raise DataError(f"data set {name!r} is not in the store {store.root()}; {store.remedy(name)}")
    try:
        noted = store.sidecar(name)
        if "frames" not in noted:
            return examine(store.path_of(name), noted)
        found = _Findings()
        _compare_figures(noted, store.read(name).summary(), found)
        return found.lines()
    except DataError as error:
        return [Finding("error", str(error))]


def examine(folder: Path, noted: Mapping[str, Any] | None) -> list[Finding]:
    """What ``inspect`` finds, of a set of vectors in any folder.

    Args:
        folder: holds ``data``, in Minari's HDF5 or Arrow format.
        noted: the sidecar's content, empty when there is none; None to leave it out of the matter.
    """
    from minari.dataset.minari_storage import MinariStorage

    found = _Findings()
    try:
        with warnings.catch_warnings(action="ignore"):
            metadata = MinariStorage.read_raw_metadata(folder / "data")
            storage = MinariStorage.read(folder / "data")
            groups = _groups(folder / "data", metadata["data_format"])
        episodes, steps = int(metadata["total_episodes"]), int(metadata["total_steps"])
        passed = _Pass(storage, found, _limit(metadata), with_digest=bool(noted))
    except Exception as error:  # h5py, Gymnasium and Minari raise many kinds for a broken file
        return [Finding("error", f"cannot be read: {_reason(error)}")]
    _compare_ids(groups, episodes, found)
    for number, attributes in sorted(groups.items()):
        passed.episode(number, attributes)
    passed.end(steps, noted or {})
    if noted == {}:
        found.warning("no sidecar", f"its hash was never noted: no {store.SIDECAR} lies beside it")
    return found.lines()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _groups(data: Path, kind: str) -> dict[int, dict[str, Any]]:
    """The episodes that are there: number -> what is noted with them."""
    if kind == "hdf5":
        import h5py

        with h5py.File(data / "main_data.hdf5", "r") as file:
            return {int(key.removeprefix("episode_")): dict(file[key].attrs) for key in file}
    return {int(p.name): {} for p in data.iterdir() if p.name.isdecimal()}


def _limit(metadata: Mapping[str, Any]) -> int | None:
    """The environment's time limit in steps, where the data set tells it or names an environment that is known."""
    spec = json.loads(metadata.get("env_spec") or "{}")
    return spec.get("max_episode_steps") or (MUJOCO_LIMIT if MUJOCO.fullmatch(str(spec.get("id"))) else None)


def _compare_ids(groups: Mapping[int, Mapping[str, Any]], total: int, found: _Findings) -> None:
    if len(groups) != total:
        found.error("counts", f"it holds {len(groups):,} episodes where its metadata say {total:,}")
    for number in sorted(set(range(total)) - set(groups)):
        found.error("ids", f"episode {number} is missing")
    seen: dict[int, int] = {}
    for number, attributes in sorted(groups.items()):
        said = int(attributes.get("id", number))
        if said in seen:
            found.error("ids", f"episodes {seen[said]} and {number} both have the id {said}")
        elif said != number:
            found.error("ids", f"episode {number} has the id {said}")
        seen.setdefault(said, number)


def _leaves(space: Any, value: Any, path: str) -> Iterator[tuple[str, Any, NDArray[Any]]]:
    """(name, space, array) of all that a possibly nested observation or action is made of."""
    for name, leaf, array in spaces.leaves(space, value):
        yield f"{path}.{name}" if name else path, leaf, np.asarray(array)


def _outside(space: Any, actions: NDArray[Any]) -> float:
    """How far the worst of the actions is outside its space, 0 where none is or the kind of space has no bounds."""
    from gymnasium.spaces import Box, Discrete, MultiDiscrete

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


def _compare_figures(noted: Mapping[str, Any], figures: Mapping[str, float], found: _Findings) -> None:
    size = max((abs(float(value)) for key, value in figures.items() if key.startswith("return_")), default=0.0)
    for key, value in figures.items():
        said = noted.get(key)
        # A mean near zero is a difference of large numbers: what counts is its error beside those.
        if not isinstance(said, int | float) or not math.isclose(said, value, rel_tol=ROUNDING, abs_tol=1e-9 * size):
            found.error("figures", f"{store.SIDECAR} says {key} {said!r}; it is {value!r}")


@dataclass
class _Pass:
    """One pass over the episodes; keeps a hash and a return of each, and the range of each column."""

    storage: Any
    found: _Findings
    limit: int | None
    with_digest: bool
    digest: Any = field(default_factory=hashlib.sha256)
    whole: bool = True  # no episode was passed over, so that hash and figures mean something
    steps: int = 0
    returns: list[float] = field(default_factory=list)
    first_of: dict[bytes, int] = field(default_factory=dict)
    twins: list[tuple[int, int]] = field(default_factory=list)
    ranges: dict[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

    def episode(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Look at one; what is noted with it is in ``attributes``."""
        try:
            self.whole &= self._episode(number, attributes)
        except Exception as error:  # as for the file
            self.whole = False
            self.found.error("cannot be read", f"episode {number} cannot be read: {_reason(error)}")

    def _episode(self, number: int, attributes: Mapping[str, Any]) -> bool:
        from gymnasium.spaces import Discrete, MultiDiscrete

        e = next(iter(self.storage.get_episodes([number])))
        observations = list(_leaves(self.storage.observation_space, e["observations"], "observations"))
        actions = list(_leaves(self.storage.action_space, e["actions"], "actions"))
        rewards = np.asarray(e["rewards"], dtype=np.float64)
        flags = [np.asarray(e[flag], dtype=bool) for flag in FLAGS]
        steps, where = len(rewards), f"episode {number}"
        self.steps += steps
        if steps == 0:
            self.found.error("zero-length", f"{where} has no steps")
            return False
        said = int(attributes.get("total_steps", steps))
        if said != steps:
            self.found.error("counts", f"{where} has {steps:,} steps where its own note says {said:,}")
        named = [(name, array) for name, _, array in (*observations, *actions)] + [("rewards", rewards)]
        good = finite = True
        for i, (name, array) in enumerate([*named, *zip(FLAGS, flags, strict=True)]):
            expected = steps + (i < len(observations))
            if array.shape[:1] != (expected,):
                good = False
                self.found.error("lengths", f"{where} has {len(array):,} {name}; expected {expected:,}")
        for name, space, array in (*observations, *actions):
            if space.shape is not None and array.shape[1:] != space.shape:
                good = False
                self.found.error("shapes", f"{where} has {name} of shape {array.shape[1:]}, not {space.shape}")
        for name, array in named:
            if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
                finite, step = False, int(np.argwhere(~np.isfinite(array))[0][0])
                self.found.error("NaN", f"{where}, step {step}: NaN or infinite {name}")
        self._ends(where, *flags)
        if self.limit is not None and steps > self.limit:
            self.found.warning("too long", f"{where} has {steps:,} steps; the time limit is {self.limit:,}")
        if good:
            for name, space, array in observations:
                if isinstance(space, Discrete | MultiDiscrete) and _outside(space, array):
                    good = False
                    self.found.error("outside", f"{where} has {name} outside {space}")
        if good:
            for name, space, array in actions:
                if excess := _outside(space, array):
                    self.found.warning("outside", f"{where} has {name} outside their space, by up to {excess:.3g}")
            self._columns(observations)
            self._remember(number, e, named, rewards, bool(flags[0].any()))
        return good and finite

    def _ends(self, where: str, terminations: NDArray[np.bool_], truncations: NDArray[np.bool_]) -> None:
        for word, flags in (("terminated", terminations), ("truncated", truncations)):
            if flags[:-1].any():
                step = int(np.argmax(flags))
                self.found.warning("early end", f"{where} is {word} at step {step} but goes on to {len(flags) - 1}")
        ends = [bool(flags[-1:].any()) for flags in (terminations, truncations)]
        if not any(ends):
            self.found.warning("incomplete", f"{where} is neither terminated nor truncated at its end")
        if all(ends):
            self.found.warning("both", f"{where} is both terminated and truncated at its end")

    def _columns(self, observations: list[tuple[str, Any, NDArray[Any]]]) -> None:
        """The range of every column of numbers; pictures and the like are passed over."""
        for name, _, array in observations:
            if array.ndim in (1, 2) and np.issubdtype(array.dtype, np.number):
                low, high = self.ranges.get(name, (array[0], array[0]))
                self.ranges[name] = np.minimum(low, array.min(axis=0)), np.maximum(high, array.max(axis=0))

    def _remember(self, number: int, e: Any, named: Any, rewards: NDArray[np.float64], terminated: bool) -> None:
        content = hashlib.sha256()
        for name, array in named:
            content.update(f"{name} {array.dtype.str} {array.shape};".encode() + array.tobytes())
        first = self.first_of.setdefault(content.digest(), number)
        if first != number:
            self.twins.append((first, number))
        self.returns.append(float(np.add.reduce(rewards)))
        if self.with_digest:
            # As Trajectories.from_episodes has it.
            flat = spaces.flatten(self.storage.observation_space, e["observations"])
            for label, array in (("observations", flat), ("actions", np.asarray(e["actions"])), ("rewards", rewards)):
                self.digest.update(f"{label} {array.dtype.str} {array.shape};".encode())
                self.digest.update(np.ascontiguousarray(array).tobytes())
            self.digest.update(b"terminated" if terminated else b"truncated")

    def end(self, total_steps: int, noted: Mapping[str, Any]) -> None:
        """What only the whole can tell; ``noted`` is the sidecar's content."""
        if self.steps != total_steps:
            self.found.error("counts", f"it holds {self.steps:,} steps where its metadata say {total_steps:,}")
        if self.twins:
            (first, second), count = self.twins[0], len(self.twins)
            self.found.warning("equal", f"episodes {first} and {second} are equal; {count:,} repeat an earlier one")
        for name, (low, high) in self.ranges.items():
            same = np.flatnonzero(np.equal(low, high))
            if len(same):
                columns = f", columns {', '.join(map(str, same))}" if np.ndim(low) else ""
                self.found.warning("constant", f"{name}{columns}: always the same")
        if not noted or not self.whole or not self.returns:
            return  # or it was said already
        if (digest := self.digest.hexdigest()) != noted.get("digest"):
            self.found.error("hash", f"its hash is {digest}; {store.SIDECAR} says {noted.get('digest')}")
        r = np.asarray(self.returns)
        figures = {f"return_{key}": float(getattr(r, key)()) for key in ("mean", "std", "min", "max")}
        _compare_figures(noted, {"episodes": len(r), "steps": self.steps, **figures}, self.found)
