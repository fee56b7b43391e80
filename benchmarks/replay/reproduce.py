"""``bench reproduce``: run a cell again from its record alone and compare the two records.

The record's settings rebuild the cell. Its data set is generated or fetched if it is not in the store, and must have
the record's hash before training starts. The run uses the record's kind of device and its number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.benchmarks.replay.compare import Comparison, compare
from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.submit import submit_verification
from backbench.leaderboard.trust.verify import other_machine, why_not_verified

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

Say = Callable[[str], None]


def reproduce(path: Path, out: Path = Path("reproduced"), to: Path | None = None, say: Say = print) -> Comparison:
    """Run the cell of the record in ``path`` again and compare.

    Args:
        path: of a finished record.
        out: folder of results without a record of this cell. An interrupted run there resumes.
        to: folder of verifications. The new record is added to it if it comes from another machine.
        say: gets lines of progress.

    Raises:
        UserError: no such record, or one of another schema; the record failed; its backbone, environment, data or
            device are not available; its data have another hash; or the new record may not be submitted.
    """
    try:
        then = load_record(path)
    except RecordError as error:
        raise UserError(str(error)) from error
    if then.failure is not None:
        raise UserError(f"{path}: the cell failed ({then.failure.message[:120]}); there is no score to reproduce")
    if (again := out / "records" / f"{then.key}.json").exists():
        raise UserError(f"{again} exists already; name a fresh folder with --out, or remove it")
    os.environ["OMP_NUM_THREADS"] = str(then.provenance.threads)  # before torch is imported
    cell = _cell(then, path)
    _prepare(then, cell, say)
    now = _again(then, cell, out, say)
    found = compare(then, now)
    for line in (f"{found.verdict}: {cell.key}", *found.lines):
        say(line)
    if to is not None:
        say(_verify(then, now, to))
    return found


def _cell(record: Record, path: Path) -> Cell:
    """The record's cell, when all of its parts are available."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.plan.compose import check_models
    from backbench.benchmarks.replay.load import cell_of
    from backbench.benchmarks.run.cell import choose_device

    try:
        BACKBONES.get(record.identity.backbone)
    except UserError as error:
        # Anybody can write a record, so the message must not tell the user to install what it names.
        if ":" in record.identity.backbone and isinstance(error.__cause__, ModuleNotFoundError):
            name = record.identity.backbone
            raise UserError(
                f"{path}: its backbone {name} is not installed ({error.__cause__}); get it from its author, and put "
                "its folder on PYTHONPATH"
            ) from error
        raise
    cell = cell_of(record.provenance.config)
    if cell.key != record.key:
        raise UserError(
            f"{path}: its settings make the cell {cell.key}, not {record.key}; another version of Backbench wrote it, "
            "or it was changed: download it from where it was published"
        )
    choose_device(record.provenance.device)
    check_models([cell])
    cell.kind.probe(cell.environment)
    return cell


def _prepare(record: Record, cell: Cell, say: Say) -> None:
    """Put the record's data into the store. ``UserError`` when they have another hash."""
    from rich.console import Console

    from backbench.benchmarks.data import sources, store
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.sinks.terminal import transfer

    due = sources.plan([(cell.data.source, cell.task.data_id)])
    if due.fetch:
        sources.fetch(due.fetch, say, partial(transfer, Console(stderr=True, soft_wrap=True)))
    if due.make:
        say(f"generating {', '.join(due.make)}")
        sources.make_all(due.make, provenance.cores(), lambda name: say(f"generated {name}"))
    assert record.identity.data is not None
    here, there = store.read(cell.task.data_id).digest, record.identity.data.sha256
    if here != there:
        raise UserError(
            f"data set {cell.task.data_id!r} here has hash {here}, and the record was made with {there}; scores on "
            "other data cannot be compared: delete the set and get it again with the record's package versions"
        )


def _again(then: Record, cell: Cell, out: Path, say: Say) -> Record:
    import warnings

    import torch

    from backbench.backbones.kernels import SlowKernels
    from backbench.benchmarks.data.sources import leaving_on_sigterm
    from backbench.benchmarks.run.cell import run_cell

    origin = then.provenance
    torch.set_num_threads(origin.threads)
    threads = f"{origin.threads} thread{'s' if origin.threads > 1 else ''}"
    say(f"training {cell.key} for {cell.train.steps} steps on {origin.device}, {threads}, into {out}/")
    tenths = {round(cell.train.steps * tenth / 10) for tenth in range(11)}

    def report(event: dict[str, Any]) -> None:
        if event["kind"] == "train" and any(event["step"] - cell.train.log_every < t <= event["step"] for t in tenths):
            say(f"step {event['step']} of {cell.train.steps}, loss {event['loss']:.4g}")

    with warnings.catch_warnings(), leaving_on_sigterm():
        warnings.simplefilter("ignore", SlowKernels)  # the comparison lists the kernels that ran
        return run_cell(cell, out, origin.device, report, command=["bench", "reproduce", f"{cell.key}.json"])


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
    why = why_not_verified(then, now)
    return f"submitted: {to / (*done.new, *done.same)[0]}{f'; it does not verify: {why}' if why else ''}"
