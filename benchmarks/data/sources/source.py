"""A data source: which data sets it has, and how they get into the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.reporting import Progress, Report, no_progress

if TYPE_CHECKING:
    from backbench.benchmarks.data.sources.dqn_select import Choice


@dataclass(frozen=True)
class Pull:
    """The options of ``bench data pull``.

    Attributes:
        location: folder or address of the published files. Empty for the public address.
        keep: keep downloaded files in the store's cache.
        force: replace a data set that is in the store.
        choice: which part of the DQN-replay logs. None for the default.
        report: receives lines of text.
        progress: receives bytes done and bytes in total during downloads.
    """

    location: str = ""
    keep: bool = False
    force: bool = False
    choice: Choice | None = None
    report: Report = print
    progress: Progress = no_progress


class Source:
    """One data source. Subclasses override the facts and the operations that apply to them.

    Attributes:
        name: the value of ``data.source``.
        kind: how its data sets get into the store. *made*: generated here. *fetched*: downloaded. *imported*: converted
            from a copy that the user has. *local*: written there by another program.
        licence: licence of a data set whose sidecar names none.
        namespaces: first parts of its data set ids.
        any_id: whether others recorded its sets under ids that Backbench does not know. Users' suites may name such
            sets, and their recorded spaces are compared with the environment's.
        needs_sidecar: whether a set without sidecar has yet to be checked by ``fetch``.
        default_names: what ``bench data pull`` gets when it is given no names.
    """

    name: str = ""
    kind: Literal["made", "fetched", "imported", "local"] = "local"
    licence: str = "-"
    namespaces: tuple[str, ...] = ()
    any_id: bool = False
    needs_sidecar: bool = False
    default_names: tuple[str, ...] = ()

    def ids(self) -> list[str]:
        """The ids that are known without a suite."""
        return []

    def command(self, data_id: str) -> str:
        """The command that gets a data set. Empty if there is none."""
        return ""

    def remedy(self, data_id: str) -> str:
        """What to do about a data set that is absent or broken."""
        command = self.command(data_id)
        return f"get it again: {command} --force" if command else "put it there, in Minari's format"

    def sized(self, data_id: str, steps: int) -> str:
        """The id of the data set of that name with ``steps`` steps. Sources without sizes return ``data_id``."""
        return data_id

    def check(self, data_id: str) -> None:
        """Raise ``DataError`` for an id that the source can never have."""

    def make(self, data_id: str) -> None:
        """Generate a data set and put it into the store."""
        raise DataError(f"data source '{self.name}' cannot make data sets: {data_id!r}; bench data list")

    def reach(self, data_id: str) -> None:
        """Raise ``DataError`` within two seconds if the host that has the data set does not answer."""

    def check_pull(self, names: Sequence[str], how: Pull) -> None:
        """Raise ``DataError`` for options that the source does not have."""
        if how.choice is not None and how.choice != type(how.choice)():
            raise DataError(
                f"source '{self.name}' has complete data sets; options that select go with source dqn-replay"
            )

    def resolve(self, name: str, how: Pull, known: Iterable[str]) -> str:
        """The data set id that ``name`` stands for. ``known`` are names of tasks and suites, for suggestions.

        Raises:
            DataError: the source has no such data set.
        """
        return name

    def fetch(self, data_id: str, how: Pull) -> None:
        """Put a data set into the store. One that is there is replaced.

        Raises:
            DataError: it cannot be had, or is broken. The store then has what it had before.
        """
        raise DataError(f"data source '{self.name}' cannot be pulled")
