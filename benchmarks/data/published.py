"""Published files of a data source, in the user's folder or below an HTTP address."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from backbench.benchmarks.data import download
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.reporting import Report
from backbench.files import locked


def is_address(location: str, option: str) -> bool:
    """Whether ``location`` is an address, not a folder.

    Raises:
        DataError: an address with another scheme or with credentials. Names ``option``, which gave it.
    """
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


class Folder:
    """Files in a folder of the user's. They are only read."""

    local = True
    where = "folder"  # recorded instead of a path, which means nothing to others

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self, name: str, once: bool = False) -> Iterator[Path]:
        """The path of a file. DataError if it is missing."""
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; put it there, or give another folder with --from")
        yield path


class Remote:
    """Files below the address ``where``, downloaded to ``cache``."""

    local = False

    def __init__(self, where: str, cache: Path, keep: bool, report: Report, terms: download.Terms) -> None:
        self.where, self.cache, self.keep, self.report, self.terms = where, cache, keep, report, terms

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
            self.report(f"fetched {name} ({path.stat().st_size / 1e6:,.1f} MB)")
        try:
            yield path
        except DataError:
            path.unlink(missing_ok=True)
            raise
        if once and not self.keep:
            path.unlink(missing_ok=True)


@contextmanager
def remote(url: str, cache: Path, keep: bool, report: Report, terms: download.Terms) -> Iterator[Remote]:
    """Files below ``url``. No other process uses ``cache`` meanwhile, and no empty folder stays behind.

    Raises:
        DataError: another process uses ``cache``, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(cache, wait=False))
        except BlockingIOError as error:
            raise DataError(f"{cache} is in use by another process; wait until it is done") from error
        except OSError as error:
            raise DataError(f"cannot write to {cache}: {error.strerror or error}") from error
        try:
            yield Remote(url, cache, keep, report, terms)
        finally:
            with suppress(OSError):  # not empty
                for folder in (cache, *cache.parents[:2]):
                    folder.rmdir()
