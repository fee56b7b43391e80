"""``bench reproduce``: run a cell again from its record alone and compare the two records.

The record's settings rebuild the cell. Its data set is generated or fetched if it is not in the store, and must have
the record's hash before training starts. The run uses the record's kind of device and its number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backbench import terminal
from backbench.benchmarks.replay.compare import Comparison, compare
from backbench.errors import UserError, require
from backbench.leaderboard.board.settings import RowId, Setting, TaskSetting
from backbench.leaderboard.record.files import RecordError, load_record, load_records
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.submit import submit_verification
from backbench.leaderboard.trust.verify import other_machine, why_not_reproduced

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.executors import Event

Say = Callable[[str], None]


def reproduce(
    path: Path, out: Path = Path("reproduced"), to: Path | None = None, say: Say = terminal.line, trust: bool = False
) -> Comparison:
    """Run the cell of the record in ``path`` again and compare; ``say`` gets lines of progress.

    An interrupted run in the folder ``out`` resumes; it may have no record of this cell. If the new record comes from
    another machine, it is added to the folder ``to`` of verifications. Raises UserError: no such record, or one of
    another schema; the record failed; its backbone, environment, data or device are not available; its data have
    another hash; or the new record may not be submitted.
    """
    try:
        then = load_record(path)
    except RecordError as error:
        raise UserError(str(error)) from error
    if then.failure is not None:
        raise UserError(f"{path}: the cell failed ({then.failure.message[:120]}); there is no score to reproduce")
    again = out / "records" / f"{then.key}.json"
    require(not again.exists(), f"{again} exists already; name a fresh folder with --out, or remove it")
    require(then.provenance.threads < 10_000, f"{path}: provenance.threads is {then.provenance.threads:,}")
    os.environ["OMP_NUM_THREADS"] = str(then.provenance.threads)  # before torch is imported
    now = _again(then, _cell(then, path, trust), out, say)
    found = compare(then, now, _other_seeds(then, path.parent))
    for line in (f"{found.verdict}: {then.key}", *found.lines):
        say(line)
    if to is not None:
        say(_verify(then, now, to))
    return found


def _other_seeds(record: Record, folder: Path) -> list[Record]:
    """Records of the same row and task in the record's own folder."""
    wanted = RowId.of(record), Setting.of(record), TaskSetting.of(record)
    return [one for one in load_records(folder)[0] if (RowId.of(one), Setting.of(one), TaskSetting.of(one)) == wanted]


def _cell(record: Record, path: Path, trust: bool) -> Cell:
    """The record's cell, if it asks for nothing but what is installed and its backbone can be imported."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.replay.trust import cell_to_run

    cell = cell_to_run(record, path, trust)
    try:
        BACKBONES.get(cell.backbone)
    except UserError as error:
        # Anybody can write a record, so the message must not tell the user to install what it names.
        if ":" in cell.backbone and isinstance(error.__cause__, ModuleNotFoundError):
            raise UserError(
                f"{path}: its backbone {cell.backbone} is not installed ({error.__cause__}); get it from its author, "
                "and put its folder on PYTHONPATH"
            ) from error
        raise
    return cell


def _again(then: Record, cell: Cell, out: Path, say: Say) -> Record:
    """The record of a second run, on the record's data, device and number of threads."""
    import torch

    from backbench.backbones.kernels.layers.layers import as_recorded
    from backbench.benchmarks.data import store
    from backbench.benchmarks.run import runner
    from backbench.benchmarks.run.cell import choose_device
    from backbench.benchmarks.run.executors import Job
    from backbench.benchmarks.run.executors.inline import InlineExecutor
    from backbench.benchmarks.run.sinks.terminal import transfer

    def made(names: Sequence[str]) -> Say:
        say(f"generating {', '.join(names)}")
        return lambda name: say(f"generated {name}")

    device, threads = then.provenance.device, then.provenance.threads
    choose_device(device, [cell])
    if store.exists(cell.task.data_id):
        _require_same_data(then, cell)  # before anything is written
    download = partial(transfer, terminal.console(error=True))
    runner.prepare([cell], out, runner.Voice(say, made, download))
    _require_same_data(then, cell)
    torch.set_num_threads(threads)
    on = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
    say(f"training {cell.key} for {cell.train.steps} steps on {on}, into {out}/")
    job = Job(out, device, ("bench", "reproduce", f"{cell.key}.json"))
    with as_recorded(then.provenance.kernels):
        outcome = runner.run([cell], job, InlineExecutor(), [_Progress(say)])
    for message in outcome.errors.values():
        raise UserError(message)
    if outcome.stopped:
        say("stopped; run the same command again to resume from the checkpoint")
        raise SystemExit(outcome.status)
    return (outcome.done + outcome.failed)[0]


def _require_same_data(record: Record, cell: Cell) -> None:
    from backbench.benchmarks.data import store

    assert record.identity.data is not None
    here, there = store.read(cell.task.data_id).digest, record.identity.data.sha256
    require(
        here == there,
        f"data set {cell.task.data_id!r} here has hash {here}, and the record was made with {there}; scores on other "
        "data cannot be compared: delete the set and get it again with the record's package versions",
    )


@dataclass(frozen=True)
class _Progress:
    """A sink that says a line for each tenth of training."""

    say: Say

    def event(self, event: Event) -> None:
        """See ``Sink``."""
        steps, every = event.cell.train.steps, event.cell.train.log_every
        if event.kind == "train" and 10 * event.step // steps > 10 * (event.step - every) // steps:
            self.say(f"step {event.step} of {steps}, loss {event.values['loss']:.4g}")


def _verify(then: Record, now: Record, to: Path) -> str:
    """Submit the new record as a verification; a line that says what happened."""
    if now.scores is None:
        return "not submitted: the second run failed"
    if not other_machine(then, now):
        return f"not submitted: this is the same kind of machine as the record's ({now.provenance.hardware.cpu})"
    try:
        done = submit_verification(now, to)
    except RecordError as error:
        raise UserError(f"not submitted: {error}") from error
    why = why_not_reproduced(then, now)
    return f"submitted: {to / (*done.new, *done.same)[0]}{f'; it does not reproduce the record: {why}' if why else ''}"
