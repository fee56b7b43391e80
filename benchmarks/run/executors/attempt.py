"""One cell in this process: whatever happens becomes an event."""

from collections.abc import Callable
from typing import Any

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.cell import run_claimed
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.executors import Emit, Event, Job
from backbench.benchmarks.run.train import Caller
from backbench.claims import Claim, Lost
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError


def attempt(cell: Cell, job: Job, claim: Claim, emit: Emit, should_stop: Callable[[], bool]) -> None:
    """Run one cell, on which there is a claim, in this process. Whatever happens becomes its last event.

    That is ``held`` if another process took the claim. Only odd errors are raised again.
    """

    def report(said: dict[str, Any]) -> None:
        values = {name: float(value) for name, value in said.items() if name not in ("kind", "step")}
        emit(Event(cell, said["kind"], said["step"], values))

    def error(message: str) -> None:
        emit(Event(cell, "error", message=message))

    try:
        record, ours = run_claimed(cell, job, claim, Caller(report, should_stop))
        emit(Event(cell, record.status if ours else "taken", record=record))
    except Interrupted:
        emit(Event(cell, "stopped"))
    except Lost as lost:
        emit(Event(cell, "held", message=str(lost)))
    except (UserError, RecordError) as problem:
        error(str(problem))
    except OSError as problem:
        error(f"{problem.strerror or problem}: {problem.filename or job.results}")
    except BaseException as problem:
        error(f"{type(problem).__name__}: {problem}")
        raise
