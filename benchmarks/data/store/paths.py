"""Where data sets lie in the store, which is Minari's own, so that ``minari.load_dataset`` opens what is there."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backbench.benchmarks.data.errors import DataError
from backbench.errors import UserError, first_line
from backbench.files import temporary_name

ID = re.compile(r"[-\w]+(/[-\w]+)*")
SIDECAR = "backbench.json"  # hash, counts and origin of a data set, beside Minari's files


def root() -> Path:
    """The store's folder. It need not exist."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def path_of(name: str, folder: Path | None = None) -> Path:
    """The folder of a data set, which need not exist. DataError if ``name`` is no id and could lead elsewhere."""
    if not ID.fullmatch(name):
        raise DataError(f"'{name}' is no id of a data set; an example is mujoco/hopper/medium-v0: bench data list")
    return (folder or root()) / name


def exists(name: str, folder: Path | None = None) -> bool:
    """Whether a data set is in the store. Metadata alone, as a broken download leaves it, does not count."""
    data = path_of(name, folder) / "data"
    return (data / "metadata.json").is_file() and any(p.name != "metadata.json" for p in data.iterdir())


def names() -> list[str]:
    """All data sets in the store."""
    found = (p.relative_to(root()).parents[1] for p in root().glob("**/data/metadata.json"))
    return sorted(str(name) for name in found if not any(part.startswith(".") for part in name.parts))


def size(name: str) -> int:
    """Bytes that a data set takes on disk, including the copies that speed up reading."""
    return sum(path.stat().st_size for path in path_of(name).rglob("*") if path.is_file())


def _getting(name: str) -> str:
    """The remedy for a data set that is not there, so nothing is replaced."""
    said = remedy(name)
    return said.removesuffix(" --force").replace("get it again", "get it") if said.endswith(" --force") else said


def remedy(name: str) -> str:
    """What to do about a data set that is absent or broken."""
    from backbench.benchmarks.data.sources.source import source_of

    return source_of(name).remedy(name)


def check_there(name: str, folder: Path | None = None) -> None:
    """Raise ``DataError`` if a data set is not in the store."""
    if not exists(name, folder):
        raise DataError(f"data set {name!r} is not in the store {folder or root()}; {_getting(name)}")


@contextmanager
def reading(name: str, folder: Path) -> Iterator[None]:
    """Turn every exception of this block into a ``DataError`` that names the data set and a remedy."""
    try:
        yield
    except UserError as error:
        raise DataError(f"{error} (in {folder}); {remedy(name)}") from error
    except Exception as error:  # h5py and Minari raise many kinds for a broken file
        message = f"data set {name!r} in {folder} cannot be read ({first_line(error)}); {remedy(name)}"
        raise DataError(message) from error


def remove(name: str) -> None:
    """Remove a data set and the folders that this leaves empty. DataError if it is not there, or cannot be removed."""
    if not exists(name):
        raise DataError(f"data set {name!r} is not in the store {root()}; bench data list")
    path = path_of(name)
    try:
        aside = root() / temporary_name("removing")
        aside.mkdir()
        os.replace(path, aside / "removed")
        shutil.rmtree(aside)
        with suppress(OSError):  # not empty
            for parent in path.relative_to(root()).parents[:-1]:
                (root() / parent).rmdir()
    except OSError as error:
        raise DataError(f"cannot remove data set {name!r} in {root()}: {error.strerror or error}") from error
