"""Comparison of a record with the record of a second run of the same cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import stdev
from typing import Any

from backbench.leaderboard.record.schema import CheckpointScores, Record, TargetScore
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import interval, t_quantile
from backbench.leaderboard.trust.verify import SCORE_SLACK

LOSS_SLACK = 1e-4  # relative difference of a held-out loss of equal weights that rounding on a processor explains
SEEDS = 3  # of a row, at least, to tell how far they lie apart
TIMINGS = ("train_seconds", "eval_seconds", "cpu_seconds", "wall_seconds", "train_tokens_per_s", "peak_memory_mb")


@dataclass(frozen=True)
class Comparison:
    """Result of a second run of a record's cell.

    ``equal bits``: weights, losses and all returns are equal. ``equal score``: all returns are, or the headline is
    within 0.05 of the normalised score. ``consistent``: on another machine or with other packages, the scores lie no
    further apart than two seeds of the row. ``differs``: none of these.
    """

    verdict: str
    lines: tuple[str, ...]  # scores then and now, other differences, and timings

    @property
    def status(self) -> int:
        """Exit status: 1 when it differs."""
        return int(self.verdict == "differs")


def compare(then: Record, now: Record, row: Sequence[Record] = ()) -> Comparison:
    """Compare the record ``now`` with ``then``, the record that it should reproduce.

    ``row`` are records of other seeds of the row of ``then`` on its task: they tell how far seeds lie apart.
    They differ if the score does, or a fact that no machine changes (parameters, FLOPs, identity, protocol), or if the
    weights are equal and the losses that led to them are not. Timings are shown and not judged.
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
        said.append(f"the headline is within {SCORE_SLACK} of the normalised score; single returns are not the same")
    if same_weights and (course or not same_returns):
        said.append(
            "the weights are the same, but their losses or returns are not: the clearest sign of an edited record"
        )
    theirs = {score.target: score for score in now.scores.last.targets}
    said += [_beside(then, one, theirs[one.target]) for one in then.scores.last.targets if one.target in theirs]
    said += [*facts, *(line for line, _ in course), *_timings(then, now)]
    if same_returns and same_weights and not course and not facts:
        return Comparison("equal bits", (*said, *changes(then, now)))
    differences = changes(then, now)
    if (same_returns or off < SCORE_SLACK) and not edited:
        return Comparison("equal score", (*said, *differences))
    reach = _reach(then, row)
    # Another commit explains nothing: the package's version is raised when numbers change.
    explained = any(not line.startswith("git_") for line in differences)
    if explained and reach is not None:
        said.append(
            f"two seeds of this row lie within {reach:.1f} of each other nine times in ten; these two {off:.1f}"
        )
    agree = explained and not edited and reach is not None and off <= reach
    return Comparison("consistent" if agree else "differs", (*said, *differences))


def _reach(then: Record, row: Sequence[Record]) -> float | None:
    """How far apart the scores of two seeds lie at most, nine times in ten. None for fewer than ``SEEDS`` seeds.

    The difference of two independent runs has sqrt(2) times the deviation of one, which n seeds estimate with n - 1
    degrees of freedom. Rounding on another processor makes a run of the same seed as good as independent.
    """
    by_seed = {one.identity.seed: one.headline.normalised_mean for one in (*row, then) if one.headline is not None}
    if len(by_seed) < SEEDS:
        return None
    return float(t_quantile(0.95, len(by_seed) - 1) * stdev(by_seed.values()) * math.sqrt(2))


def _played(checkpoint: CheckpointScores) -> list[tuple[object, ...]]:
    return [(score.target, score.returns, score.lengths) for score in checkpoint.targets]


def different_facts(then: Record, now: Record) -> list[str]:
    """A line for each fact that no second run may change, and that differs. Fields of another release are skipped."""
    one, two = _facts(then), _facts(now)
    return [_changed(name, one[name], two[name]) for name in one if name in two and not _alike(one[name], two[name])]


def _facts(record: Record) -> dict[str, Any]:
    content = record.model_dump(include={"identity", "protocol"}, exclude_unset=True)
    found = {f"{part}.{name}": value for part, fields in content.items() for name, value in fields.items()}
    for name in ("identity.data", "identity.model"):  # one line for a field, not for all of them
        found |= {f"{name}.{inner}": value for inner, value in (found.pop(name) or {}).items()}
    names = ("parameters_total", "parameters_backbone", "flops_per_token")
    return found | {f"cost.{name}": getattr(record.cost, name, None) for name in names}


def _alike(one: Any, two: Any) -> bool:
    """Whether values are equal; floats up to the order in which another processor adds."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-6)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(_alike(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def _changed(name: str, then: object, now: object) -> str:
    texts = ("none" if value is None else str(value) for value in (then, now))
    one, two = (text if len(text) <= 120 else f"{text[:117]}..." for text in texts)
    return f"{name}: {one} then, {two} now"


def _course(then: Record, now: Record) -> list[tuple[str, bool]]:
    """Differences in training and in the best checkpoint: a line each, and whether equal weights rule it out.

    Scores of equal weights may differ by the environment's rounding.
    """
    found = []
    if not _alike(then.curve.loss, now.curve.loss):
        pairs = zip_longest(then.curve.loss, now.curve.loss)
        one, two = next((a, b) for a, b in pairs if a is None or b is None or not _alike(a, b))
        a, b = (f"{pair[1]:.6g} at step {pair[0]}" if pair else "none" for pair in (one, two))
        found.append((f"curve.loss: {a} then, {b} now", True))
    if then.curve.evaluations != now.curve.evaluations:
        by_step = ({e.step: e.normalised for e in record.curve.evaluations} for record in (then, now))
        found.append(_scores("curve.evaluations", *by_step))
    best, again = (getattr(record.scores, "best", None) for record in (then, now))
    if (best and (best.step, _played(best))) != (again and (again.step, _played(again))):
        by_step = ({one.step: one.targets[0].normalised_mean} if one else {} for one in (best, again))
        found.append(_scores("scores.best", *by_step))
    longer, later = (dict(record.longer_scores()) for record in (then, now))
    if longer != later:
        by_place = ({place: one.score.normalised_mean for place, one in scores.items()} for scores in (longer, later))
        found.append(_scores("scores.longer", *by_place))
    held, again = (getattr(record.scores, "held_out", None) for record in (then, now))
    if held != again:
        near = held is not None and again is not None and math.isclose(held.loss, again.loss, rel_tol=LOSS_SLACK)
        found.append((_changed("scores.held_out", held, again), not near))
    return found


def _scores(name: str, then: dict[Any, float], now: dict[Any, float]) -> tuple[str, bool]:
    """A line for scores by step, or by path, that differ, and whether they differ by more than rounding."""
    off = math.inf if then.keys() != now.keys() else max(abs(then[step] - now[step]) for step in then)
    at = "at step " if all(isinstance(place, int) for place in {**then, **now}) else "at "
    one, two = (", ".join(f"{v:.2f} {at}{place}" for place, v in by.items()) or "none" for by in (then, now))
    return f"{name}: {one} then, {two} now", off >= SCORE_SLACK


def _timings(then: Record, now: Record) -> list[str]:
    if then.cost is None or now.cost is None:
        return []
    pairs = [(name, getattr(then.cost, name), getattr(now.cost, name)) for name in TIMINGS]
    pairs.append(("decision p50_ms", then.cost.decision.p50_ms, now.cost.decision.p50_ms))
    return [f"not judged, then/now: {', '.join(f'{name} {one:.4g}/{two:.4g}' for name, one, two in pairs)}"]


def _beside(then: Record, one: TargetScore, other: TargetScore) -> str:
    protocol = then.protocol
    episodes = [normalise(protocol.normaliser, then.identity.task, v, protocol.reference) for v in one.returns]
    around = interval([one.normalised_mean], episodes=episodes)
    said = "" if around is None else f"; {around.low:.2f} .. {around.high:.2f} in the record's own {around.n} episodes"
    a, b = one.normalised_mean, other.normalised_mean
    return f"target {one.target:g}: {a:.2f} then, {b:.2f} now, difference {b - a:+.2f}{said}"


def changes(then: Record, now: Record) -> list[str]:
    """A line for each difference in machine, code and packages."""
    one, two = then.provenance, now.provenance
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(one, name), getattr(two, name))
        for name in ("git_commit", "git_dirty", "python", "platform", "device", "dtype", "threads")
    }
    pairs |= {name: (getattr(one.hardware, name), getattr(two.hardware, name)) for name in ("cpu", "gpu")}
    at = [{} if origin.hardware.processor is None else dict(origin.hardware.processor) for origin in (one, two)]
    pairs |= {f"processor {name}": (at[0][name], at[1][name]) for name in at[0] if name in at[1]}
    for kind in ("packages", "kernels"):
        before, after = getattr(one, kind), getattr(two, kind)
        pairs |= {f"{kind} {name}": (before.get(name), after.get(name)) for name in sorted({*before, *after})}
    return [_changed(name, a, b) for name, (a, b) in pairs.items() if a != b]
