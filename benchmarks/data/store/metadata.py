"""``metadata.json`` of a data set in Minari's format, read within bounds. Nothing of it is ever imported or called.

Minari itself builds the recorded environment where a space is missing, and an environment's ``entry_point`` is any
function of any module. So both spaces are required here, and Backbench reads them without Minari.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbench import reading
from backbench.errors import first_line
from backbench.reading import ReadingError

FILE = "metadata.json"
FORMATS = ("hdf5", "arrow", "parquet")
MOST = 10**12  # steps and episodes
NUMBERS = 1_000_000  # in the bounds of a space
CHOICES = 4096  # of a discrete space: each is a column
DEPTH = 8  # spaces within spaces
TYPES = {f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)} - {"float8"} | {"bool"}


@dataclass(frozen=True)
class Metadata:
    """The metadata of a data set, as its file states them."""

    path: Path
    format: str  # one of ``FORMATS``
    episodes: int
    steps: int
    observations: Any  # Gymnasium's spaces
    actions: Any
    jpeg: bool  # whether pictures are stored as JPEG
    content: Mapping[str, Any]  # all of it

    @property
    def spaces_digest(self) -> str:
        """sha256 of the two spaces as they are written. The data's hash does not cover the bounds of actions."""
        written = "\n".join(str(self.content.get(f"{kind}_space")) for kind in ("observation", "action"))
        return hashlib.sha256(written.encode()).hexdigest()

    def specification(self, key: str = "env_spec") -> dict[str, Any]:
        """The recorded environment as plain values, to be read only. Empty if none was recorded."""
        written = self.content.get(key)
        found = reading.parse_json(written, f"{self.path}: {key}", infinite=True) if isinstance(written, str) else {}
        return found if isinstance(found, dict) else {}


def read(data: Path) -> Metadata:
    """The metadata in the folder ``data``. ``ReadingError`` for anything missing or out of bounds."""
    path = data / FILE
    content = reading.read_json(path)
    if not isinstance(content, dict):
        raise ReadingError(path, "holds no mapping")
    counts = {key: content.get(key) for key in ("total_episodes", "total_steps")}
    for key, value in counts.items():
        if type(value) is not int or not 0 <= value <= MOST:
            raise ReadingError(path, f"has {key} {_shown(value)}; expected a count")
    kind = content.get("data_format", "hdf5")
    if kind not in FORMATS:
        raise ReadingError(path, f"has the data_format {_shown(kind)}; known: {', '.join(FORMATS)}")
    return Metadata(
        path=path,
        format=kind,
        episodes=content["total_episodes"],
        steps=content["total_steps"],
        observations=space(content.get("observation_space"), f"{path}: observation_space"),
        actions=space(content.get("action_space"), f"{path}: action_space"),
        jpeg=bool(content.get("jpeg_encoding", True)),
        content=content,
    )


def space(written: Any, where: str) -> Any:
    """Gymnasium's space from Minari's text of it; ``where`` begins the ``ReadingError`` for a missing or a bad one."""
    if not isinstance(written, str):
        raise ReadingError(where, "is missing; Backbench does not run the recorded environment to find it")
    try:
        return _space(reading.parse_json(written, where, infinite=True), where, DEPTH)
    except ReadingError:
        raise
    except Exception as error:  # Gymnasium's own checks raise several kinds
        raise ReadingError(where, f"is no space ({first_line(error, 100)})") from error


def _space(of: Any, where: str, depth: int) -> Any:
    from gymnasium import spaces

    def require(fits: bool, what: str) -> None:
        if not fits:
            raise ReadingError(where, f"is no space that can be read: {what}")

    require(isinstance(of, dict), _shown(of))
    require(depth > 0, f"more than {DEPTH} within each other")
    kind = of.get("type")
    if kind in ("Dict", "Tuple"):
        parts = of.get("subspaces")
        require(isinstance(parts, dict if kind == "Dict" else list), "no subspaces")
        if kind == "Tuple":
            return spaces.Tuple([_space(part, where, depth - 1) for part in parts])
        require(all(key and "/" not in key for key in parts), "a name that is empty or has a slash")
        return spaces.Dict({key: _space(part, where, depth - 1) for key, part in parts.items()})
    if kind == "Box":
        shape, dtype = _shape(of.get("shape")), of.get("dtype")
        require(shape is not None and dtype in TYPES, f"shape {_shown(of.get('shape'))}, type {_shown(dtype)}")
        low, high = (np.array(of.get(name), dtype=dtype) for name in ("low", "high"))
        require(low.shape == high.shape == shape and not (low > high).any(), "bounds do not fit its shape")
        return spaces.Box(low, high, shape, np.dtype(dtype).type)
    if kind == "Discrete":
        n, start = of.get("n"), of.get("start", 0)
        require(_whole(n, 1, CHOICES) and _whole(start, -MOST, MOST), f"n {_shown(n)}, start {_shown(start)}")
        return spaces.Discrete(n, start=start)
    if kind == "MultiDiscrete":
        nvec, start = np.array(of.get("nvec")), np.array(of.get("start", 0))
        require(nvec.dtype.kind == start.dtype.kind == "i" and nvec.size > 0, "nvec or start are no whole numbers")
        fits = nvec.min() >= 1 and int(nvec.astype(object).sum()) <= CHOICES and (abs(start) <= MOST).all()
        require(bool(fits) and start.shape in ((), nvec.shape), "nvec or start out of bounds")
        return spaces.MultiDiscrete(nvec, start=np.broadcast_to(start, nvec.shape).copy())
    if kind == "MultiBinary":
        shape = _shape(of["n"] if isinstance(of.get("n"), list) else [of.get("n")])
        require(shape is not None, f"n {_shown(of.get('n'))}")
        return spaces.MultiBinary(shape if isinstance(of["n"], list) else of["n"])
    require(kind == "Text", f"type {_shown(kind)}")
    return spaces.Text(1)  # nothing here reads text; its kind is enough for an error


def _shape(of: Any) -> tuple[int, ...] | None:
    """A shape of at most ``NUMBERS`` numbers."""
    fits = isinstance(of, list) and len(of) <= DEPTH and all(_whole(side, 0, NUMBERS) for side in of)
    return tuple(of) if fits and math.prod(of) <= NUMBERS else None


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _shown(value: Any) -> str:
    return repr(value)[:60]
