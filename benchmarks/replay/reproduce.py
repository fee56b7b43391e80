"""``bench reproduce``: a cell is made again from its record alone and laid beside what the record says.

The record's settings rebuild the cell, its data set is made or fetched where it is not in the store, and must have the
record's hash before anything is trained. Training and evaluation run on the record's kind of device, with its number of
threads, into a folder of their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.errors import UserError
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import CheckpointScores, Record, TargetScore
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import interval
from backbench.leaderboard.trust.submit import submit_verification
from backbench.leaderboard.trust.verify import SCORE_SLACK, other_machine, why_not_verified

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """What a second run says of a record."""

    verdict: str
    """``equal bits``: weights, losses and all returns; ``equal score``: all returns, or the headline within 0.05
    points; ``differs``."""
    lines: tuple[str, ...]
    """Scores then and now, what else is not as it was, and timings."""

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
    from backbench.benchmarks.plan.compose import check_models
    from backbench.benchmarks.replay.load import cell_of
    from backbench.benchmarks.run.cell import choose_device

    try:
        BACKBONES.get(record.identity.backbone)
    except UserError as error:
        # A record is anybody's text: what it names is not to be installed on its word.
        if ":" in record.identity.backbone and isinstance(error.__cause__, ModuleNotFoundError):
            name = record.identity.backbone
            raise UserError(
                f"{path}: its backbone {name} is not here ({error.__cause__}); get it from its author, and put its "
                "folder on PYTHONPATH"
            ) from error
        raise
    cell = cell_of(record.provenance.config)
    if cell.key != record.key:
        raise UserError(
            f"{path}: its settings make the cell {cell.key}, not {record.key}; another version of Backbench wrote it, "
            "or it was changed: take it from where it was published"
        )
    choose_device(record.provenance.device)
    check_models([cell])
    cell.kind.probe(cell.environment)
    return cell


def _prepare(record: Record, cell: Cell, say: Say) -> None:
    """The record's data in the store; ``UserError`` when they have another hash."""
    from rich.console import Console

    from backbench.benchmarks.data import sources
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.sinks.terminal import transfer

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
        warnings.simplefilter("ignore", SlowKernels)  # which kernels ran is compared
        return run_cell(cell, out, origin.device, report, command=["bench", "reproduce", f"{cell.key}.json"])


def compare(then: Record, now: Record) -> Comparison:
    """Lay the record ``now`` of a cell beside ``then``, the one that it should reproduce.

    It differs where the score does, where a fact does that no machine changes (parameters, FLOPs, identity, protocol),
    and where the weights are equal and the course that led to them is not. Timings are shown and not judged.
    """
    if then.scores is None or then.headline is None:
        raise ValueError("a failed record has no scores")
    if now.scores is None or now.headline is None:
        failure = now.failure.message if now.failure else "no reason"
        return Comparison("differs", (f"it failed now: {failure}", *changes(then, now)))
    same_returns = _played(then.scores.last) == _played(now.scores.last)
    same_weights = then.provenance.weights_sha256 == now.provenance.weights_sha256
    off = abs(now.headline.normalised_mean - then.headline.normalised_mean)
    count = sum(len(score.returns) for score in then.scores.last.targets)
    facts, course = different_facts(then, now), _course(then, now)
    edited = bool(facts) or (same_weights and any(beyond for _, beyond in course))
    said = []
    if same_returns and same_weights:
        said.append(f"the weights and the returns of {count} episodes are the same")
    elif same_returns:
        said.append(f"the returns of {count} episodes are the same, the weights are not")
    elif off < SCORE_SLACK:
        said.append(f"the headline is within {SCORE_SLACK} points; single returns are not the same")
    if same_weights and (course or not same_returns):
        said.append(
            "the weights are the same and what led to them or came of them is not: the clearest sign of an edit"
        )
    theirs = {score.target: score for score in now.scores.last.targets}
    said += [_beside(then, one, theirs[one.target]) for one in then.scores.last.targets if one.target in theirs]
    said += [*facts, *(line for line, _ in course), *_timings(then, now)]
    if same_returns and same_weights and not course and not facts:
        return Comparison("equal bits", tuple(said))
    equal = (same_returns or off < SCORE_SLACK) and not edited
    return Comparison("equal score" if equal else "differs", (*said, *changes(then, now)))


def _played(checkpoint: CheckpointScores) -> list[tuple[object, ...]]:
    return [(score.target, score.returns, score.lengths) for score in checkpoint.targets]


def different_facts(then: Record, now: Record) -> list[str]:
    """What no second run may change, and is not the same; a line each.

    Fields that only one of the two has are of another release, and left out.
    """
    one, two = _facts(then), _facts(now)
    return [
        f"{name}: {_short(one[name])} then, {_short(two[name])} now"
        for name in one
        if name in two and not _alike(one[name], two[name])
    ]


def _facts(record: Record) -> dict[str, Any]:
    content = record.model_dump(include={"identity", "protocol"}, exclude_unset=True)
    found = {f"{part}.{name}": value for part, fields in content.items() for name, value in fields.items()}
    for name in ("identity.data", "identity.model"):  # one line for a field, not for all of them
        found |= {f"{name}.{inner}": value for inner, value in (found.pop(name) or {}).items()}
    names = ("parameters_total", "parameters_backbone", "flops_per_token")
    return found | {f"cost.{name}": getattr(record.cost, name, None) for name in names}


def _alike(one: Any, two: Any) -> bool:
    """Equal, floats up to sums that another processor takes in another order."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-6)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(_alike(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _course(then: Record, now: Record) -> list[tuple[str, bool]]:
    """How training and the best checkpoint were not the same: a line, and whether equal weights forbid it.

    The scores of equal weights may differ by the environment's rounding, as those of the last checkpoint may.
    """
    found = []
    if not _alike(then.curve.loss, now.curve.loss):
        pairs = zip_longest(then.curve.loss, now.curve.loss)
        one, two = next((a, b) for a, b in pairs if a is None or b is None or not _alike(a, b))
        told = (f"{pair[1]:.6g} at step {pair[0]}" if pair else "none" for pair in (one, two))
        found.append((f"curve.loss: {next(told)} then, {next(told)} now", True))
    if then.curve.evaluations != now.curve.evaluations:
        ours, theirs = ({e.step: e.normalised for e in record.curve.evaluations} for record in (then, now))
        off = math.inf if ours.keys() != theirs.keys() else max(abs(ours[step] - theirs[step]) for step in ours)
        found.append(_scores_of("curve.evaluations", ours, theirs, off))
    best, again = (getattr(record.scores, "best", None) for record in (then, now))
    if (best and (best.step, _played(best))) != (again and (again.step, _played(again))):
        ours, theirs = ({one.step: one.targets[0].normalised_mean} if one else {} for one in (best, again))
        off = math.inf if ours.keys() != theirs.keys() else max(abs(ours[step] - theirs[step]) for step in ours)
        found.append(_scores_of("scores.best", ours, theirs, off))
    return found


def _scores_of(name: str, ours: dict[int, float], theirs: dict[int, float], off: float) -> tuple[str, bool]:
    told = (", ".join(f"{v:.2f} at step {step}" for step, v in one.items()) or "none" for one in (ours, theirs))
    return f"{name}: {next(told)} then, {next(told)} now", off >= SCORE_SLACK


def _timings(then: Record, now: Record) -> list[str]:
    if then.cost is None or now.cost is None:
        return []
    names = ("train_seconds", "eval_seconds", "cpu_seconds", "wall_seconds", "train_tokens_per_s", "peak_memory_mb")
    pairs = [(name, getattr(then.cost, name), getattr(now.cost, name)) for name in names]
    pairs.append(("decision p50_ms", then.cost.decision.p50_ms, now.cost.decision.p50_ms))
    return [f"not judged, then/now: {', '.join(f'{name} {one:.4g}/{two:.4g}' for name, one, two in pairs)}"]


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
    return [f"{name}: {_short(a)} then, {_short(b)} now" for name, (a, b) in pairs.items() if a != b]


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
