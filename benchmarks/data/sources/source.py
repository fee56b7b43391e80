"""A data source: which data sets it has, and how they get into the store. The registry imports none of them early."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backbench import terminal
from backbench.benchmarks.data.errors import DataError, Progress, Report, no_progress
from backbench.registry import Registry

if TYPE_CHECKING:
    from backbench.benchmarks.data.sources.dqn_select import Choice


@dataclass(frozen=True)
class Pull:
    """The options of ``bench data pull``."""

    location: str = ""  # folder or address of the published files; empty for the public address
    keep: bool = False  # keep downloaded files in the store's cache
    force: bool = False  # replace a data set that is in the store
    choice: Choice | None = None  # which part of the DQN-replay logs; None for the default
    report: Report = terminal.line
    progress: Progress = no_progress


class Source:
    """One data source. Subclasses override the facts and the operations that apply to them."""

    name: str = ""  # the value of ``data.source``
    # made: generated here. fetched: downloaded. imported: from a copy that the user has. local: by another program.
    kind: Literal["made", "fetched", "imported", "local"] = "local"
    licence: str = "-"  # of a data set whose sidecar names none
    namespaces: tuple[str, ...] = ()  # first parts of its data set ids
    # Whether others recorded its sets under ids that Backbench does not know. Users' suites may name such sets, and
    # their recorded spaces are compared with the environment's.
    any_id: bool = False
    needs_sidecar: bool = False  # ``fetch`` has yet to check a set without sidecar
    default_names: tuple[str, ...] = ()  # what ``bench data pull`` gets when it is given no names

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

    def make(self, data_id: str) -> str:
        """Generate a data set and put it into the store. What the user must know about its content; empty usually."""
        raise DataError(f"data source '{self.name}' cannot make data sets: {data_id!r}; bench data list")

    def reach(self, data_id: str) -> None:
        """Raise ``DataError`` within two seconds if the host that has the data set does not answer."""

    def check_pull(self, names: Sequence[str], how: Pull) -> None:
        """Raise ``DataError`` for options that the source does not have."""
        if how.choice is not None and how.choice != type(how.choice)():
            which = "options that select go with source dqn-replay"
            raise DataError(f"source '{self.name}' has complete data sets; {which}")

    def resolve(self, name: str, how: Pull, known: Iterable[str]) -> str:
        """The id that ``name`` stands for, else DataError. ``known`` are names of tasks and suites, for suggestions."""
        return name

    def fetch(self, data_id: str, how: Pull) -> None:
        """Put a data set into the store, replacing one. Raises ``DataError``; the store then has what it had before."""
        raise DataError(f"data source '{self.name}' cannot be pulled")


class Local(Source):
    """Data sets of any id, in Minari's format, that the user or another program put into the store."""

    name = "local"
    any_id = True


LOCAL = Local()
# Found by name, when needed: sources write to the store, and the store asks a source for a remedy.
SOURCES: Registry[Source] = Registry(
    "data source",
    {name: f"{__package__}.{name.replace('-', '_')}:SOURCE" for name in ("embedded", "d4rl", "minari", "dqn-replay")}
    | {"local": f"{__name__}:LOCAL"},
    bases=(Source,),
)


def source_of(data_id: str) -> Source:
    """The source that a data set's id belongs to: the local one where no other has the namespace."""
    namespace = data_id.partition("/")[0]
    return next((source for source in SOURCES.all().values() if namespace in source.namespaces), LOCAL)
