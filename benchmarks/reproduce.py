"""``bench reproduce``: a cell is made again from its record alone and laid beside what the record says.

The record's settings rebuild the cell, its data set is made or fetched where it is not in the store, and must have the
record's hash before anything is trained. Training and evaluation run on the record's kind of device, with its number of
threads, into a folder of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.backbones.errors import UserError
from backbench.leaderboard.normalise import normalise
from backbench.leaderboard.record import Record, RecordError, TargetScore, load_record
from backbench.leaderboard.statistics import interval
from backbench.leaderboard.submit import submit_verification
from backbench.leaderboard.trust import SCORE_SLACK, other_machine, why_not_verified

if TYPE_CHECKING:
    from backbench.benchmarks.config import Cell

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """What a second run says of a record."""

    verdict: str
    """``equal bits``: weights and all returns; ``equal score``: all returns, or the headline within 0.05 points;
    ``differs``."""
    lines: tuple[str, ...]
    """Scores then and now, and what else is not as it was."""

    @property
    def status(self) -> int:
        """Exit status: 1 where it differs."""
        return int(self.verdict == "differs")


def reproduce(path: Path, out: Path = Path("reproduced"), to: Path | None = None, say: Say = print) -> Comparison:
    """Make the cell of the record in ``path`` again and compare.

    Args:
        path: of a record that is done.
        out: folder of results that has no record of this cell; a run that was interrupted there goes on.
        to: folder of verifications that the new record is put into when it comes from another machine.
        say: gets lines of progress.

    Raises:
        UserError: no such record, or one of another schema; it has failed; its backbone, environment, data or device
            are not here; its data have another hash; or the new record may not be submitted.
    """
    try:
        then = load_record(path)
    except RecordError as error:
        raise UserError(str(error)) from error
    if then.failure is not None:
        raise UserError(f"{path}: the cell failed ({then.failure.message[:120]}); there is no score to reproduce")
    if (again := out / "records" / f"{then.key}.json").exists():
        raise UserError(f"{again} is there already; name a fresh folder with --out, or take it away")
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
    """The record's cell, all of whose parts are here."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks import environments
    from backbench.benchmarks.cell import choose_device
    from backbench.benchmarks.compose import check_models
    from backbench.benchmarks.rebuild import cell_of

    BACKBONES.get(record.identity.backbone)
    cell = cell_of(record.provenance.config)
    if cell.key != record.key:
        raise UserError(
            f"{path}: its settings make the cell {cell.key}, not {record.key}; another version of Backbench wrote it, "
            "or it was changed: take it from where it was published"
        )
    choose_device(record.provenance.device)
    check_models([cell])
    if not cell.task.pixels:
        environments.probe(cell.task.env_id, cell.task.env_kwargs)
    return cell


def _prepare(record: Record, cell: Cell, say: Say) -> None:
    """The record's data in the store; ``UserError`` when they have another hash."""
    from rich.console import Console

    from backbench.benchmarks import provenance
    from backbench.benchmarks.console import transfer
    from backbench.benchmarks.data import sources

    due = sources.plan([(cell.data.source, cell.task)])
    if due.fetch:
        sources.fetch(due.fetch, say, partial(transfer, Console(stderr=True, soft_wrap=True)))
    if due.make:
        say(f"making {', '.join(due.make)}")
        sources.make_all(due.make, provenance.cores(), lambda name: say(f"made {name}"))
    assert record.identity.data is not None
    here, there = sources.load(cell.task).digest, record.identity.data.sha256
    if here != there:
        raise UserError(
            f"data set {cell.task.data_id!r} here has hash {here}, and the record was made with {there}; scores on "
            "other data say nothing: make or fetch the set anew, with the record's versions of the packages"
        )


def _again(then: Record, cell: Cell, out: Path, say: Say) -> Record:
    import warnings

    import torch

    from backbench.backbones.kernels import SlowKernels
    from backbench.benchmarks.cell import run
    from backbench.benchmarks.data.sources import leaving_on_sigterm

    origin = then.provenance
    torch.set_num_threads(origin.threads)
    threads = f"{origin.threads} thread{'s' if origin.threads > 1 else ''}"
    say(f"training {cell.key} for {cell.train.steps} steps on {origin.device}, {threads}, into {out}/")
    tenths = {round(cell.train.steps * tenth / 10) for tenth in range(11)}

    def report(event: dict[str, Any]) -> None:
        if event["kind"] == "train" and any(event["step"] - cell.train.log_every < t <= event["step"] for t in tenths):
            say(f"step {event['step']} of {cell.train.steps}, loss {event['loss']:.4g}")

    with warnings.catch_warnings(), leaving_on_sigterm():
        warnings.simplefilter("ignore", SlowKernels)  # which kernels ran is compared
        return run(cell, out, origin.device, report, command=["bench", "reproduce", f"{cell.key}.json"])


def compare(then: Record, now: Record) -> Comparison:
    """Lay the record ``now`` of a cell beside ``then``, the one that it should reproduce."""
    if then.scores is None or then.headline is None:
        raise ValueError("a failed record has no scores")
    if now.scores is None or now.headline is None:
        failure = now.failure.message if now.failure else "no reason"
        return Comparison("differs", (f"it failed now: {failure}", *changes(then, now)))
    ours, theirs = then.scores.last.targets, now.scores.last.targets
    same_returns = [(s.returns, s.lengths) for s in ours] == [(s.returns, s.lengths) for s in theirs]
    same_weights = then.provenance.weights_sha256 == now.provenance.weights_sha256
    off = abs(now.headline.normalised_mean - then.headline.normalised_mean)
    count = sum(len(score.returns) for score in ours)
    lines = [_beside(then, one, other) for one, other in zip(ours, theirs, strict=True)]
    if same_returns and same_weights:
        return Comparison("equal bits", (f"the weights and the returns of {count} episodes are the same", *lines))
    if same_returns:
        lines.insert(0, f"the returns of {count} episodes are the same, the weights are not")
    elif off < SCORE_SLACK:
        lines.insert(0, f"the headline is within {SCORE_SLACK} points; single returns are not the same")
    equal = same_returns or off < SCORE_SLACK
    return Comparison("equal score" if equal else "differs", (*lines, *changes(then, now)))


def _beside(then: Record, one: TargetScore, other: TargetScore) -> str:
    protocol = then.protocol
    episodes = [normalise(protocol.normaliser, then.identity.task, v, protocol.reference) for v in one.returns]
    around = interval([one.normalised_mean], episodes=episodes)
    said = "" if around is None else f"; {around.low:.2f} .. {around.high:.2f} by the record's own {around.n} episodes"
    return (
        f"target {one.target:g}: {one.normalised_mean:.2f} then, {other.normalised_mean:.2f} now, "
        f"{other.normalised_mean - one.normalised_mean:+.2f} points{said}"
    )


def changes(then: Record, now: Record) -> list[str]:
    """What was not the same for the two, beside their scores; a line each."""
    one, two = then.provenance, now.provenance
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(one, name), getattr(two, name))
        for name in ("git_commit", "git_dirty", "python", "platform", "device", "dtype", "threads")
    }
    pairs |= {name: (getattr(one.hardware, name), getattr(two.hardware, name)) for name in ("cpu", "gpu")}
    for kind in ("packages", "kernels"):
        before, after = getattr(one, kind), getattr(two, kind)
        pairs |= {f"{kind} {name}": (before.get(name), after.get(name)) for name in sorted({*before, *after})}
    return [f"{name}: {a or 'none'} then, {b or 'none'} now" for name, (a, b) in pairs.items() if a != b]


def _verify(then: Record, now: Record, to: Path) -> str:
    """Submit the new record as a verification; a line that says what was done."""
    if now.scores is None:
        return "not submitted: the cell failed now"
    if not other_machine(then, now):
        return f"not submitted: this is the same kind of machine as the record's ({now.provenance.hardware.cpu})"
    try:
        done = submit_verification(now, to)
    except RecordError as error:
        raise UserError(f"not submitted: {error}") from error
    why = why_not_verified(then, now)
    return f"submitted: {to / (*done.new, *done.same)[0]}{f'; it does not verify: {why}' if why else ''}"
