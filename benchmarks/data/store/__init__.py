"""The Minari store on disk: write a data set whole or not at all, read it checked.

The store is Minari's own (``MINARI_DATASETS_PATH``, else ``~/.minari/datasets``), so that ``minari.load_dataset``
opens what is made here. Beside Minari's files lies ``backbench.json`` with the content's hash and counts, and, once a
set of vectors has been read, ``flat.bin``, from which it opens faster (``flat.py``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import quiet_mujoco
from backbench.errors import UserError

SIDECAR = "backbench.json"
ID = re.compile(r"[-\w]+(/[-\w]+)*")
MINARI = ("mujoco", "D4RL", "atari", "minigrid", "babyai")  # what the names of Minari's own sets begin with


def root() -> Path:
    """The store's folder; it need not exist."""
    set_by_user = os.environ.get("MINARI_DATASETS_PATH")
    return Path(set_by_user) if set_by_user else Path.home() / ".minari" / "datasets"


def path_of(name: str, folder: Path | None = None) -> Path:
    """Where a data set lies, or would lie; ``folder`` stands in for the store.

    Raises:
        DataError: ``name`` is no id; a path could lead out of the store.
    """
    if not ID.fullmatch(name):
        raise DataError(f"'{name}' is no id of a data set; one is like mujoco/hopper/medium-v0: bench data list")
    return (folder or root()) / name


def exists(name: str, folder: Path | None = None) -> bool:
    """Whether a data set of that name is in the store; one that has come in part, without any data, is not."""
    data = path_of(name, folder) / "data"
    return (data / "metadata.json").is_file() and any(p.name != "metadata.json" for p in data.iterdir())


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

    Each episode is taken from the sequence twice, in order, and may be made then. The set gets the spaces of
    ``env_id``; ``origin`` says how the data came about and is kept beside them as JSON.

    Raises:
        DataError: what an episode should not hold, or a store that cannot be written; nothing is left behind.
    """
    import gymnasium
    import minari

    quiet_mujoco()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer version of the environment
        with gymnasium.make(env_id) as env:
            actions = spaces.Actions.of(env.action_space, f"data set {name!r}: {env_id}")
    trajectories = Trajectories.from_episodes(episodes, name, actions)
    with staged(name) as staging, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional fields (author, reference scores) that do not apply
        minari.create_dataset_from_buffers(
            name,
            _buffers(episodes),  # it only iterates
            env=env_id,
            algorithm_name=origin.get("algorithm"),
            author="Backbench",
            description=origin.get("description"),
            jpeg_encoding=False,
        )
        write_sidecar(staging / name, trajectories, origin)
    return trajectories


def _buffers(episodes: Sequence[Episode]) -> Iterator[Any]:
    """Minari's form of each episode, one at a time; the arrays are the episode's own."""
    from minari.data_collector import EpisodeBuffer

    for number, e in enumerate(episodes):
        ended = np.zeros(len(e.rewards), dtype=bool)
        ended[-1] = True
        never = np.zeros_like(ended)
        yield EpisodeBuffer(
            id=number,
            seed=e.seed,
            observations=e.observations,
            actions=e.actions,
            rewards=e.rewards,
            terminations=ended if e.terminated else never,
            truncations=never if e.terminated else ended,
        )


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
    for left in (*root().glob(".making-*"), *root().glob(".pulling-*"), *root().rglob(f"{flat.PART}*")):
        with suppress(OSError):
            touched = max(p.stat().st_mtime for p in (left, *left.rglob("*")))
            # A download that was broken off is worth going on with for some days.
            if time.time() - touched <= older_than * (7 * 24 if left.name.startswith(".pulling-") else 1):
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def sidecar(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What was noted when the data set was made; empty for one that another program wrote."""
    path = path_of(name, folder) / SIDECAR
    if not path.is_file():
        return {}
    try:
        content: Any = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"data set {name!r}: {path} is not valid JSON; {remedy(name)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("origin", {}), dict):
        raise DataError(f"data set {name!r}: {path} does not hold what Backbench notes there; {remedy(name)}")
    return content


def counts(name: str) -> dict[str, int]:
    """Episodes and steps by Minari's own metadata; empty where they do not say."""
    try:
        content = json.loads((path_of(name) / "data" / "metadata.json").read_text())
        return {"episodes": int(content["total_episodes"]), "steps": int(content["total_steps"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def recorded_spaces(name: str) -> tuple[Any, Any]:
    """The spaces of observations and of actions that a set of vectors was recorded with."""
    folder = path_of(name)
    with _reading(name, folder):
        dataset = _dataset(folder)
        return dataset.observation_space, dataset.action_space


def digest(name: str) -> str | None:
    """The content's hash as it is noted, without reading the data; None where nobody has noted it yet."""
    noted = sidecar(name).get("digest")
    return str(noted) if noted else flat.digest(path_of(name))


def read(name: str) -> Trajectories:
    """Read a data set and check its counts, and its hash where one was noted.

    The first reading of a set of vectors leaves a copy that the next ones open faster.

    Raises:
        DataError: absent, truncated, inconsistent, or changed since it was made.
        UserError: observations that are no vectors, or actions that agents here do not have.
    """
    from backbench.benchmarks.data.store import framestore

    _check_there(name, None)
    noted = sidecar(name)
    if "frames" in noted:
        return framestore.read(name, noted)
    return flat.through(path_of(name), name, noted.get("digest", "") if noted else None, lambda: load(name))


def load(name: str, root: Path | None = None) -> Trajectories:
    """What ``read`` gives of a set of vectors, always from Minari's files and with every check.

    One episode is in memory at a time. ``root`` is a folder that stands in for the store. It raises what ``read`` does.
    """
    _check_there(name, root)
    folder, noted = path_of(name, root), sidecar(name, root)
    with _reading(name, folder):
        dataset = _dataset(folder)
        steps = int(dataset.total_steps)
    where = f"data set {name!r} in {folder}"
    spaces.check_observations(dataset.observation_space, where)
    actions = spaces.Actions.of(dataset.action_space, where)
    with _reading(name, folder):
        trajectories = Trajectories.from_episodes(_episodes(dataset), name, actions)
        if len(trajectories.rewards) != steps:
            raise DataError(f"data set {name!r} has {len(trajectories.rewards)} steps where its metadata say {steps}")
        if noted and noted.get("digest") != trajectories.digest:
            raise DataError(f"data set {name!r} is not what was written: its hash has changed")
    return trajectories


def _dataset(folder: Path) -> Any:
    """Minari's data set in ``folder``."""
    import minari

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.MinariDataset(folder / "data")


def _check_there(name: str, folder: Path | None) -> None:
    if not exists(name, folder):
        raise DataError(f"data set {name!r} is not in the store {folder or root()}; {remedy(name)}")


@contextmanager
def _reading(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise DataError(f"{error} (in {folder}); {remedy(name)}") from error
    except Exception as error:  # h5py and Minari raise many kinds for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"data set {name!r} in {folder} cannot be read ({reason}); {remedy(name)}") from error


def _episodes(dataset: Any) -> Iterator[Episode]:
    for e in dataset.storage.get_episodes(range(dataset.total_episodes)):
        yield Episode(
            observations=spaces.flatten(dataset.observation_space, e["observations"]),
            actions=np.asarray(e["actions"]),
            rewards=np.asarray(e["rewards"], dtype=np.float64),
            terminated=bool(np.any(e["terminations"])),
        )


def size(name: str) -> int:
    """Bytes that a data set takes on disk, the copies that are only there for speed included."""
    return sum(path.stat().st_size for path in path_of(name).rglob("*") if path.is_file())


def remove(name: str) -> None:
    """Remove a data set, and the folders that only it was in; what is half removed counts as absent.

    Raises:
        DataError: it is not there, or cannot be removed.
    """
    if not exists(name):
        raise DataError(f"data set {name!r} is not in the store {root()}")
    path = path_of(name)
    try:
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=root()))
        os.replace(path, aside / "removed")
        shutil.rmtree(aside)
        with suppress(OSError):  # not empty
            for parent in path.relative_to(root()).parents[:-1]:
                (root() / parent).rmdir()
    except OSError as error:
        raise DataError(f"cannot remove data set {name!r} in {root()}: {error.strerror or error}") from error


def remedy(name: str) -> str:
    """What to do about a data set that is absent or broken."""
    source, _, rest = name.partition("/")
    if source == "backbench":
        return f"make it anew: bench data make {name} --force"
    if source in ("dqn-replay", "minari"):
        return f"bring it anew: bench data pull {source} {rest.partition('/')[0]} --force"
    if source == "d4rl":
        return f"bring it anew: bench data pull d4rl {name} --force"
    if source in MINARI:
        return f"bring it anew: bench data pull minari {name} --force"
    return "put it there, in Minari's format"
