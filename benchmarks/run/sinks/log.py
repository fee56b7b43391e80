"""A log elsewhere as a sink: what happens in a run, as it happens, for people who look at runs in another program."""

import math
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from backbench.benchmarks.run.executors import Event
from backbench.errors import one_line
from backbench.files import create_whole
from backbench.leaderboard.record.schema import Record

Entry = TypeVar("Entry")


class Log(ABC, Generic[Entry]):
    """One entry for a command, one for each of its cells. Every method returns quietly whatever the program does.

    Records are the result. Nothing is read back from a log, and no failure inside it costs a cell: ``warn`` gets the
    first one in a line, and the log is quiet from then on. Only the parent process of a run writes. ``place`` is where
    it lies, and ``look`` what shows it: a command or an address.
    """

    tool: str  # its name

    def __init__(self, place: str, look: str, warn: Callable[[str], None]) -> None:
        self.place, self.look, self.active = place, look, True
        self._warn = warn
        self._begun = False
        self._cells: dict[str, Entry] = {}  # key -> entry of the cell, while it is open
        self._odd: set[tuple[str, str]] = set()  # (key, metric) that was not finite before
        self._failed = 0

    @abstractmethod
    def _begin(self, params: Mapping[str, Any]) -> None:
        """Open the command's entry. ``params``, nested or not, become its parameters, ``name`` in it its name."""

    @abstractmethod
    def _open(self, key: str, params: Mapping[str, Any]) -> Entry:
        """Open the entry of a cell, or open again the one that was not finished."""

    @abstractmethod
    def _add(self, cell: Entry, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a cell; all are finite."""

    @abstractmethod
    def _note(self, cell: Entry, name: str, text: str) -> None:
        """A word on a cell."""

    @abstractmethod
    def _record(self, cell: Entry, record: Record) -> None:
        """What a record says of its cell."""

    @abstractmethod
    def _close(self, cell: Entry, done: bool) -> None:
        """The cell has ended."""

    @abstractmethod
    def _board(self, records: Sequence[Record]) -> None:
        """The board of ``records`` for the command's entry."""

    @abstractmethod
    def _end(self, failed: bool) -> None:
        """Send what waits and end the command's entry; cells that are open were stopped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(failed=kind is not None)

    def start(self, params: Mapping[str, Any]) -> None:
        """Open the command's entry."""
        with self._guard("starting") as go:
            if go and not self._begun:
                self._begin(params)
                self._begun = True

    def event(self, event: Event) -> None:
        """An entry opens with its cell's first event, gets the numbers of others, and closes with the record."""
        key = event.cell.key
        if event.kind == "started":
            self.cell_started(key, event.cell.resolved())
        elif event.kind in ("held", "taken"):  # another process logs it, in the same entry
            self.leave(key)
        elif event.record is not None:
            self.cell_finished(key, event.record)
        elif event.kind in ("error", "stopped"):
            self.cell_failed(key, event.message or event.kind)
        elif event.values:
            self.metrics(key, event.step, event.values)

    def cell_started(self, key: str, params: Mapping[str, Any]) -> None:
        """Open the entry of a cell; ``params`` are its settings."""
        with self._guard(f"opening {key}") as go:
            if go and self._begun and key not in self._cells:
                self._cells[key] = self._open(key, params)

    def metrics(self, key: str, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a cell that has started. What is not finite becomes a note, since programs draw it as 1e308
        or not at all."""
        with self._guard(f"metrics of {key}") as go:
            if go and (cell := self._cells.get(key)) is not None:
                self._add_finite(key, cell, step, values)

    def cell_finished(self, key: str, record: Record) -> None:
        """Close a cell with its record."""
        self.cell_started(key, record.provenance.config)
        with self._guard(f"closing {key}") as go:
            if go and (cell := self._cells.get(key)) is not None:
                self._record(cell, record)
                self._closed(key, cell, record.status == "done")

    def cell_failed(self, key: str, reason: str) -> None:
        """Close a cell that left no scores."""
        self.cell_started(key, {})
        with self._guard(f"closing {key}") as go:
            if go and (cell := self._cells.get(key)) is not None:
                self._note(cell, "status", "failed")
                self._note(cell, "reason", reason)
                self._closed(key, cell, done=False)

    def leave(self, key: str) -> None:
        """Forget a cell without closing its entry."""
        self._cells.pop(key, None)

    def board(self, records: Sequence[Record]) -> None:
        """Give the command's entry the board of ``records``."""
        with self._guard("logging the board") as go:
            if go and self._begun and records:
                self._board(records)

    def close(self, *, failed: bool = False) -> None:
        """End everything. Again is harmless."""
        with self._guard("closing") as go:
            if go and self._begun:
                self._end(failed or bool(self._failed))
                self._cells, self._begun = {}, False

    def _add_finite(self, key: str, cell: Entry, step: int, values: Mapping[str, float]) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        for name, value in numbers.items():
            if not math.isfinite(value) and (key, name) not in self._odd:
                self._odd.add((key, name))
                self._note(cell, f"nonfinite.{name}", f"{value} first at step {step}")
        self._add(cell, step, {name: value for name, value in numbers.items() if math.isfinite(value)})

    def _closed(self, key: str, cell: Entry, done: bool) -> None:
        self._close(cell, done)
        del self._cells[key]
        self._failed += not done

    @contextmanager
    def _guard(self, doing: str) -> Iterator[bool]:
        """Runs a block that may fail inside the program; yields whether there is anything to do."""
        try:
            yield self.active
        except Exception as error:
            self.active = False
            self._warn(
                f"{self.tool} tracking stopped ({doing}): {type(error).__name__}: {one_line(error, 160)}; the run "
                f"continues and its records are complete without it (tracking is at {self.place})"
            )


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level, ``{"train": {"lr": 1}} -> {"train.lr": 1}``; an empty one stays as ``{}``."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def folder_id(results: Path) -> str:
    """A name of a folder of results that moves with it: on a server, other folders have runs of equal cells."""
    path = results / ".tracking-id"
    create_whole(path, uuid.uuid4().hex)
    return path.read_text(encoding="ascii")
