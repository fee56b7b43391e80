"""The Minari store on disk: write a data set whole or not at all, read it checked.

The store is Minari's own (``MINARI_DATASETS_PATH``, else ``~/.minari/datasets``), so that ``minari.load_dataset``
opens what is made here. Beside Minari's files lies ``backbench.json`` with the content's hash and counts.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories

SIDECAR = "backbench.json"


def root() -> Path:
    """The store's folder; it need not exist."""
    set_by_user = os.environ.get("MINARI_DATASETS_PATH")
    return Path(set_by_user) if set_by_user else Path.home() / ".minari" / "datasets"


def path_of(name: str) -> Path:
    """Where a data set lies, or would lie."""
    return root() / name


def exists(name: str) -> bool:
    """Whether a finished data set of that name is in the store."""
    return (path_of(name) / "data" / "metadata.json").is_file()


def names() -> list[str]:
    """All data sets in the store."""
    return sorted(
        str(p.parents[1].relative_to(root()))
        for p in root().glob("**/data/metadata.json")
        if not any(part.startswith(".") for part in p.relative_to(root()).parts)
    )


@contextmanager
def _store_at(folder: Path) -> Iterator[None]:
    """Minari reads its store's path from the environment alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def write(name: str, episodes: Sequence[Episode], env_id: str, origin: dict[str, Any]) -> Trajectories:
    """Write a data set under a temporary name, then move it into place; an older one of that name is replaced.

    ``origin`` says how the data came about; it is kept beside the data as JSON.
    """
    import minari
    from minari.data_collector import EpisodeBuffer

    trajectories = Trajectories.from_episodes(episodes, name)
    buffers = []
    for number, e in enumerate(episodes):
        ended = np.zeros(len(e.rewards), dtype=bool)
        ended[-1] = True
        never = np.zeros_like(ended)
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=e.seed,
                observations=e.observations,
                actions=e.actions,
                rewards=e.rewards,
                terminations=ended if e.terminated else never,
                truncations=never if e.terminated else ended,
            )
        )
    with staged(name) as staging, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional fields (author, reference scores) that do not apply
        minari.create_dataset_from_buffers(
            name,
            buffers,
            env=env_id,
            algorithm_name=origin.get("algorithm"),
            author="Backbench",
            description=origin.get("description"),
            jpeg_encoding=False,
        )
        write_sidecar(staging / name, trajectories, origin)
    return trajectories


def write_sidecar(
    folder: Path, trajectories: Trajectories, origin: dict[str, Any], more: dict[str, Any] | None = None
) -> None:
    """Note hash, counts and origin beside a data set that is being written."""
    content = {"digest": trajectories.digest, **trajectories.summary(), "origin": origin, **(more or {})}
    (folder / SIDECAR).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


@contextmanager
def staged(name: str) -> Iterator[Path]:
    """A store of its own for Minari to write ``name`` into; moved into place when the block ends, else dropped.

    Raises:
        DataError: for an ``OSError``, such as a full disk; names the store.
    """
    final = path_of(name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".making-", dir=root()))
    except OSError as error:
        raise DataError(
            f"cannot write to the data store {root()}: {error.strerror}; set MINARI_DATASETS_PATH"
        ) from error
    try:
        with _store_at(staging):
            yield staging
        _swap(staging / name, final, staging / "replaced")
    except OSError as error:
        raise DataError(f"cannot write data set {name!r} to {root()}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap(new: Path, final: Path, aside: Path) -> None:
    """Move ``new`` to ``final``; what was there goes ``aside``, and comes back when the move fails."""
    if not final.exists():
        os.replace(new, final)
        return
    os.replace(final, aside)
    try:
        os.replace(new, final)
    except OSError:
        os.replace(aside, final)
        raise


def clear_leftovers(older_than: float = 3600.0) -> None:
    """Remove what a killed process left half-made, once nothing in it has changed for ``older_than`` seconds."""
    for staging in root().glob(".making-*"):
        with suppress(OSError):
            touched = max(p.stat().st_mtime for p in (staging, *staging.rglob("*")))
            if time.time() - touched > older_than:
                shutil.rmtree(staging)


def sidecar(name: str) -> dict[str, Any]:
    """What was noted when the data set was made; empty for one that another program wrote."""
    path = path_of(name) / SIDECAR
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"data set {name!r}: {path} is not valid JSON; {remedy(name)}") from error
    return content


def read(name: str) -> Trajectories:
    """Read a data set and check its counts, and its hash where one was noted.

    Raises:
        DataError: absent, truncated, inconsistent, or changed since it was made.
    """
    import minari

    from backbench.benchmarks.data import framestore

    if not exists(name):
        raise DataError(f"data set {name!r} is not in the store {root()}; {remedy(name)}")
    noted = sidecar(name)
    if "frames" in noted:
        return framestore.read(name, noted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = minari.load_dataset(name)
        episodes = [
            Episode(
                observations=np.asarray(e["observations"]),
                actions=np.asarray(e["actions"]),
                rewards=np.asarray(e["rewards"], dtype=np.float64),
                terminated=bool(np.any(e["terminations"])),
            )
            for e in dataset.storage.get_episodes(range(dataset.total_episodes))
        ]
        steps = int(dataset.total_steps)
    except DataError:
        raise
    except Exception as error:  # h5py and Minari raise many kinds for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"data set {name!r} in {path_of(name)} cannot be read ({reason}); {remedy(name)}") from error
    try:
        trajectories = Trajectories.from_episodes(episodes, name)
        if len(trajectories.rewards) != steps:
            raise DataError(f"data set {name!r} has {len(trajectories.rewards)} steps where its metadata say {steps}")
        if noted and noted.get("digest") != trajectories.digest:
            raise DataError(f"data set {name!r} is not what was written: its hash has changed")
    except DataError as error:
        raise DataError(f"{error} (in {path_of(name)}); {remedy(name)}") from error
    return trajectories


def remedy(name: str) -> str:
    """What to do about a data set that is absent or broken."""
    source, _, rest = name.partition("/")
    if source == "backbench":
        return f"make it anew: bench data make {name} --force"
    if source in ("dqn-replay", "minari"):
        return f"bring it anew: bench data pull {source} {rest.partition('/')[0]} --force"
    return f"bring it with Minari: minari download {name}"
