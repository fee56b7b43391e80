"""Carry out a request, for ``bench run`` and ``backbench.run``: plan its cells, and run those that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any

from backbench import storage, terminal
from backbench.benchmarks.api.engines import Where, engine_for

if TYPE_CHECKING:
    from rich.console import Console

    from backbench.benchmarks.plan.request import Request
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.runner import Outcome


@dataclass(frozen=True)
class Show:
    """Who hears of a run, and the words of the command that its records name."""

    console: Console  # progress
    errors: Console  # notes and warnings
    command: tuple[str, ...]


@dataclass
class Carried:
    """What became of a request."""

    cells: Sequence[Cell] = ()  # the request's, without the trials of a tuning
    outcomes: list[Outcome] = field(default_factory=list)  # of what ran: trials, then cells
    status: int = 0  # exit status: 0 all done, 1 a cell failed, 128 + signal when it was stopped
    curves: str = ""  # where training curves are, if they are


def whole(value: Any, least: int = 0) -> bool:
    """Whether a caller's value is a whole number, Python's or NumPy's, of at least ``least``."""
    return type(value) is not bool and isinstance(value, Integral) and int(value) >= least


def carry_all(request: Request, where: Where, show: Show, tune: int | str = 0, sampler: str = "") -> Carried:
    """Carry out a request. ``tune``: settings tried for each backbone before its cells run, or FLOPs; 0 for none.
    ``sampler``: what proposes them; empty for the grid.

    Raises:
        UserError: nothing was written.
    """
    from backbench.benchmarks.data.processes import keep_bytecode
    from backbench.benchmarks.plan.compose import plan, reach
    from backbench.benchmarks.plan.request import Budget
    from backbench.benchmarks.run.results import tidy
    from backbench.benchmarks.run.runner import remaining

    carried = Carried()
    keep_bytecode()  # of what workers read, too

    def run_left(cells: Sequence[Cell], later: Sequence[Cell] = ()) -> int:
        left = remaining(cells, where.out)
        tidy(cells, where.out)
        if not left:  # nothing heavy is imported
            return 0
        outcome, carried.curves = carry_out(request, where, cells, left, show, later)
        carried.outcomes.append(outcome)
        return outcome.status

    if not any((where.out / "records").glob("*.json")):
        reach(request)  # before hydra and torch are imported; with records there, less may be left to fetch
    if Budget.of(tune):
        from backbench.benchmarks.plan.tune import GRID, tuning
        from backbench.benchmarks.tune.trials import tuned_cells

        asked = tuning(request, tune, sampler or GRID)
        carried.cells, carried.status = tuned_cells(
            asked, where.out, lambda trials: run_left(trials, asked.untuned), show.console, show.errors
        )
    else:
        carried.cells = plan(request)
    if carried.cells:
        carried.status = max(carried.status, run_left(carried.cells))
    return carried


def carry_out(
    request: Request, where: Where, cells: Sequence[Cell], left: Sequence[Cell], show: Show, later: Sequence[Cell] = ()
) -> tuple[Outcome, str]:
    """Run the cells that are left; those that come ``later`` are only prepared.

    What became of them, and where its curves are, if they are.
    """
    from backbench.backbones import BACKBONES
    from backbench.backbones.kernels import slow_note
    from backbench.benchmarks.api.boards import alike
    from backbench.benchmarks.api.status import note_plan
    from backbench.benchmarks.run import runner
    from backbench.benchmarks.run.executors import Job
    from backbench.benchmarks.run.executors.inline import InlineExecutor
    from backbench.benchmarks.run.sinks import open_log
    from backbench.benchmarks.run.sinks.terminal import RunDisplay, voice

    def warn(text: str) -> None:
        terminal.say(show.errors, text, style="yellow")

    engine = engine_for(left, where, lambda line: terminal.say(show.console, line))
    log = open_log(where.track, where.out, warn)
    runner.prepare([*left, *later], where.out, voice(show.console, show.errors), request.suite)
    note_plan(cells, where.out, show.command)
    before = f", {len(cells) - len(left)} done before" if len(left) < len(cells) else ""
    place = storage.name(where.out)
    said = f"{len(left)} cell{'s' if len(left) > 1 else ''} to run{before}; {engine.side}; results in {place}"
    terminal.say(show.console, said)
    if storage.is_address(place) and not where.track:
        terminal.say(show.console, f"MLflow's database stays on this machine: {where.out}")
    if engine.device == "cpu" and (note := slow_note()):
        warn(f"{note} (bench doctor says more)")
    with log:
        name = " ".join(show.command[:8])
        log.start({"name": name, "suite": cells[0].task.suite, "preset": request.preset})
        with RunDisplay(left, show.console) as display:
            job = Job(where.out, engine.device, show.command, BACKBONES.importable())
            with _as_in_a_worker(engine.device) if isinstance(engine.executor, InlineExecutor) else nullcontext():
                outcome = runner.run(left, job, engine.executor, [display, log])
        if log.active and not outcome.stopped:
            log.board(alike(cells[0], where.out, silent=True)[0])
    _say_what_failed(outcome, len(left), show.console)
    return outcome, f"{log.tool}: {log.look}" if log.active else ""


@contextmanager
def _as_in_a_worker(device: str) -> Iterator[None]:
    """A cell in this process computes the bits that it has in a worker, and leaves torch as it was."""
    import torch

    from backbench.benchmarks.data.processes import steady

    with steady(1, device.partition(":")[0]), torch.random.fork_rng(devices=[]):
        yield


def _say_what_failed(outcome: Outcome, count: int, console: Console) -> None:
    for record in outcome.failed:
        if record.failure is not None:
            terminal.say(console, f"failed: {record.key}: {record.failure.message}")
    for key, message in outcome.errors.items():
        terminal.say(console, f"not done: {key}: {message}")
    if outcome.stopped:
        done = len(outcome.done)
        resume = "run the same command again to resume from checkpoints"
        terminal.say(console, f"stopped: {done} of {count} cells done; {resume}")
