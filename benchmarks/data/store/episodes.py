"""The episodes of a data set in Minari's format, one in memory at a time."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data.hdf5 import FLOOR, RATIO, SPARE, Contents
from backbench.benchmarks.data.store.metadata import Metadata
from backbench.benchmarks.data.trial import trial
from backbench.benchmarks.environments import spaces
from backbench.reading import MB, ReadingError

HDF5 = "main_data.hdf5"
ARRAYS = ("rewards", "terminations", "truncations")
VECTORS = 256 * MB  # bytes that observations may take as vectors, beyond what the file holds


@dataclass(frozen=True)
class Episodes:
    """The episodes of an open data set."""

    metadata: Metadata
    hdf5: Contents | None  # None for Arrow and Parquet
    left: list[int]  # bytes that observations may still take as vectors: one-hot columns are many

    def attributes(self) -> dict[int, dict[str, int]]:
        """The whole numbers that each episode's attributes record, by its number."""
        if self.hdf5 is None:
            return {int(p.name): {} for p in self.metadata.path.parent.iterdir() if p.name.isdecimal()}
        found = {}
        for key in self.hdf5.names():
            number = key.removeprefix("episode_")
            if not (key.startswith("episode_") and number.isdecimal() and len(number) < 16):
                raise ReadingError(self.hdf5.path, f"holds {key[:60]!r}, which is no episode")
            said = {name: self.hdf5.integer((key,), name) for name in ("id", "total_steps")}
            found[int(number)] = {name: value for name, value in said.items() if value is not None}
        return found

    def read(self, number: int) -> dict[str, Any]:
        """Observations, actions (arrays, nested as their spaces are), and ``ARRAYS`` of an episode."""
        of = self.metadata
        if self.hdf5 is None:
            return _arrow(of, number)
        key = f"episode_{number}"
        content = {
            name: _nested(self.hdf5, (key, name), space)
            for name, space in (("observations", of.observations), ("actions", of.actions))
        }
        return content | {name: self.hdf5.array(key, name) for name in ARRAYS}

    def pictures(self, number: int, shape: tuple[int, ...], block: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures uint8 (n, *shape) of an episode of an HDF5 file, at most ``block`` at a time."""
        where = (f"episode_{number}", "observations")
        if self.hdf5 is None:
            raise ReadingError(self.metadata.path, f"has the data_format {self.metadata.format}; expected hdf5")
        if not self.metadata.jpeg:
            for found in self.hdf5.rows(where, block):
                if found.dtype != np.uint8 or found.shape[1:] != shape:
                    raise ReadingError(self.hdf5.path, f"has pictures {found.dtype} {found.shape[1:]}, not {shape}")
                yield found
            return
        waiting = []
        for written in self.hdf5.texts(where):
            waiting.append(_picture(written, shape, self.hdf5.path))
            if len(waiting) == block:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)

    def vectors(self, observations: Any) -> NDArray[Any]:
        """The observations of an episode as (steps + 1, size), see ``spaces.flatten``."""
        space = self.metadata.observations
        rows = max((len(array) for _, _, array in spaces.leaves(space, observations)), default=0)
        self.left[0] -= rows * spaces.size(space) * np.dtype(np.float32).itemsize
        if self.left[0] < 0:
            said = f"has observations that are too many as vectors of {spaces.size(space):,} numbers"
            raise ReadingError(self.metadata.path.parent, said)
        return spaces.flatten(space, observations)


def _nested(hdf5: Contents, where: tuple[str, ...], space: Any) -> Any:
    from gymnasium.spaces import Dict, Tuple

    if isinstance(space, Dict):
        return {key: _nested(hdf5, (*where, key), part) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_nested(hdf5, (*where, f"_index_{i}"), part) for i, part in enumerate(space.spaces))
    return hdf5.array(*where)


def _picture(written: bytes, shape: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    """A JPEG, decoded once its header has declared the expected size."""
    from PIL import Image

    with Image.open(io.BytesIO(written), formats=["JPEG"]) as picture:
        if picture.size != (shape[1], shape[0]):
            raise ReadingError(path, f"has a picture of {picture.size}, expected {(shape[1], shape[0])}")
        found = np.asarray(picture.convert("RGB" if len(shape) == 3 else "L"))
    if found.shape != shape:
        raise ReadingError(path, f"has a picture of shape {found.shape}, expected {shape}")
    return found


def _arrow(of: Metadata, number: int) -> dict[str, Any]:
    """As ``Episodes.read``. Minari's class needs no environment when it is given the spaces."""
    from minari.dataset._storages import get_minari_storage

    storage: Any = get_minari_storage(of.format)(of.path.parent, of.observations, of.actions, jpeg_encoding=of.jpeg)
    return dict(next(iter(storage.get_episodes([number]))))


@contextmanager
def opened(metadata: Metadata, first: Callable[[Episodes], object] | None = None) -> Iterator[Episodes]:
    """The episodes of a data set, after a child process has read all of them: by ``first``, if it is given."""
    folder = metadata.path.parent
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())

    def attempt() -> None:
        with _opened(metadata) as episodes:
            (first or _read_all)(episodes)

    trial(folder, size, FLOOR + RATIO * size + SPARE, attempt)
    with _opened(metadata, VECTORS + RATIO * size) as episodes:
        yield episodes


def _read_all(episodes: Episodes) -> None:
    for number in episodes.attributes():
        episodes.read(number)


@contextmanager
def _opened(metadata: Metadata, left: int = 0) -> Iterator[Episodes]:
    with ExitStack() as stack:
        inside = metadata.path.parent / HDF5
        hdf5 = stack.enter_context(Contents(inside)) if metadata.format == "hdf5" else None
        yield Episodes(metadata, hdf5, [left])
