"""Published files of a data source, in the user's folder or below an HTTP address."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from backbench.benchmarks.data import download
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.source import Pull
from backbench.files import locked


def is_address(location: str, option: str) -> bool:
    """Whether ``location`` is an address, not a folder. DataError if it has credentials or is no http(s)."""
    scheme, colon, _ = location.partition("://")
    if not colon:
        return False
    try:
        parts = urllib.parse.urlsplit(location)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc) and bool(parts.hostname)
    except ValueError:
        plain = False
    if scheme.lower() not in ("http", "https") or not plain:  # the message must not show a password
        raise DataError(f"{option}: give a folder, or an http(s) address without name, password, ? and #")
    return True


@dataclass(frozen=True)
class Folder:
    """Files in a folder of the user's. They are only read."""

    folder: Path
    local = True
    where = "folder"  # recorded instead of a path, which means nothing to others

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file. DataError if it is missing."""
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; put it there, or give another folder with --from")
        yield path


@dataclass(frozen=True)
class Remote:
    """Files below the address ``where``, downloaded to ``cache``."""

    where: str
    cache: Path
    how: Pull
    terms: download.Terms
    local = False

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file, downloaded if it is missing.

        The file is removed if the block raises ``DataError``, and with ``once`` also after use.
        """
        path = self.cache / name
        if not path.is_file():
            try:
                download.download(f"{self.where}/{urllib.parse.quote(name, safe='')}", path, self.terms)
            except OSError as error:
                raise DataError(f"cannot write to {self.cache}: {error.strerror or error}") from error
            self.how.report(f"fetched {name} ({path.stat().st_size / 1e6:,.1f} MB)")
        try:
            yield path
        except DataError:
            path.unlink(missing_ok=True)
            raise
        if once and not self.how.keep:
            path.unlink(missing_ok=True)


@contextmanager
def remote(url: str, cache: Path, how: Pull, terms: download.Terms) -> Iterator[Remote]:
    """Files below ``url``. No other process uses ``cache`` meanwhile (DataError), and no empty folder stays behind."""
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(cache, wait=False))
        except BlockingIOError as error:
            raise DataError(f"{cache} is in use by another process; wait until it is done") from error
        except OSError as error:
            raise DataError(f"cannot write to {cache}: {error.strerror or error}") from error
        try:
            yield Remote(url, cache, how, terms)
        finally:
            with suppress(OSError):  # not empty
                for folder in (cache, *cache.parents[:2]):
                    folder.rmdir()
