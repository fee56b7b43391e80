"""The cells that are left, one at a time, while other processes take cells of the same grid."""

import time
from collections import deque
from collections.abc import Sequence

from backbench import claims
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import results
from backbench.benchmarks.run.executors import Emit, Event, Job
from backbench.claims import Claim
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError

LOOK_AGAIN = 1.0  # seconds until cells that others hold are looked at again


class Queue:
    """Gives the next cell that has no record and that nobody holds. It is empty when each cell was given or recorded.

    A cell that another process holds waits at the end. When that process is done, its record is an event here too; when
    it died, the cell is given to this process.
    """

    def __init__(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        self._waiting, self._job, self._emit = deque(cells), job, emit
        self._said: set[str] = set()
        self._again = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self) -> None:
        """Give no other cell."""
        self._waiting.clear()

    def put_back(self, cell: Cell) -> None:
        """Another process took a cell that was given."""
        self._waiting.append(cell)

    def next(self, idle: bool) -> tuple[Cell, Claim] | None:
        """A cell with the claim on it; None if others hold all that are left. ``idle`` says for whom we wait."""
        if time.monotonic() < self._again:
            return None
        for _ in range(len(self._waiting)):
            cell = self._waiting.popleft()
            try:
                if not self._recorded(cell):
                    claim = results.claim(cell, self._job.results)
                    if not self._recorded(cell):  # by the process whose claim has just ended
                        return cell, claim
                    claim.remove()
            except claims.Held as held:
                self._waiting.append(cell)
                if idle and cell.key not in self._said:
                    self._said.add(cell.key)
                    self._emit(Event(cell, "held", message=f"{held} runs it; waiting for the record"))
            except (UserError, RecordError) as error:
                self._emit(Event(cell, "error", message=str(error)))
            except OSError as error:
                folder = cell.checkpoint_folder(self._job.results)
                said = f"cannot write {folder}: {error.strerror or error}; choose another --out"
                self._emit(Event(cell, "error", message=said))
        self._again = time.monotonic() + LOOK_AGAIN
        return None

    def _recorded(self, cell: Cell) -> bool:
        record = results.finished(cell, self._job.results)
        if record is not None:
            self._emit(Event(cell, "taken", record=record))
        return record is not None
