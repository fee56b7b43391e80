"""The sidecar ``backbench.json``: hash, counts and origin of a data set, beside Minari's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.store.paths import path_of, remedy
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.files import write_whole

SIDECAR = "backbench.json"


def write_sidecar(
    folder: Path, trajectories: Trajectories, origin: dict[str, Any], more: dict[str, Any] | None = None
) -> None:
    """Record hash, counts and origin of the data set in ``folder``."""
    content = {"digest": trajectories.digest, **trajectories.summary(), "origin": origin, **(more or {})}
    write_whole(folder / SIDECAR, json.dumps(content, indent=1, sort_keys=True) + "\n")


def sidecar(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What was recorded when the data set was written. Empty if another program wrote it."""
    path = path_of(name, folder) / SIDECAR
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"data set {name!r}: {path} is not valid JSON; {remedy(name)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("origin", {}), dict):
        raise DataError(f"data set {name!r}: {path} is not a sidecar of Backbench; {remedy(name)}")
    return content


def counts(name: str) -> dict[str, int]:
    """Episodes and steps from Minari's metadata. Empty if they are not there."""
    try:
        content = json.loads((path_of(name) / "data" / "metadata.json").read_text())
        return {"episodes": int(content["total_episodes"]), "steps": int(content["total_steps"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def digest(name: str) -> str | None:
    """The recorded hash of the content, without reading the data. None if no hash was recorded."""
    recorded = sidecar(name).get("digest")
    return str(recorded) if recorded else flat.digest(path_of(name))
