"""Which records of one board contradict each other, however possible each of them is alone."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.groups import comparable_groups, together
from backbench.leaderboard.board.settings import RowId, Setting
from backbench.leaderboard.board.tuning import key_of, setting_of, tunings
from backbench.leaderboard.record.identity import (
    MATCH,
    MATCHED,
    SELECTION,
    WIDTH,
    flops_of,
    matched_to,
    trial,
    tuned,
    without,
)
from backbench.leaderboard.record.schema import DataSummary, Identity, Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.trust.verify import TIMES


def impossible_together(records: Sequence[Record]) -> Iterator[str]:
    """Contradictions between ``records`` of one board, a line each, with the keys of both records."""
    yield from twice(records)
    weights: dict[str, Record] = {}
    data: dict[str, tuple[DataSummary, str]] = {}
    for record in _by_start(records):
        digest = record.provenance.weights_sha256
        if digest is not None:
            first = weights.setdefault(digest, record)
            if _other_training(first, record):
                yield f"{record.key} has the weights of {first.key}; one training is one record: remove one"
        if record.identity.data is not None:
            known, key = data.setdefault(record.identity.data.sha256, (record.identity.data, record.key))
            if name := _other_data(known, record.identity.data):
                yield f"{record.key} has another identity.data.{name} than {key}, and the same data; restore them"
    yield from _copies(records)
    yield from _other_size(records)
    yield from _not_matched(records)
    yield from _not_tuned(records)


def _copies(records: Sequence[Record]) -> Iterator[str]:
    """Records of different seeds with one loss curve, or with equal times: one of them was copied from the other.
    The last digits of losses are those of one training, and of times those of one run."""
    losses: dict[object, Record] = {}
    times: dict[object, Record] = {}
    for record in _by_start(records):
        if record.cost is None or len(record.curve.loss) < 2:
            continue
        spent = tuple(record.cost.model_dump(include=TIMES, mode="json").items())
        for said, seen, key in (
            ("losses", losses, (record.identity.backbone, record.identity.task, record.curve.loss)),
            ("times", times, repr((record.identity.backbone, record.identity.task, spent))),
        ):
            first = seen.setdefault(key, record)
            if first.identity.seed != record.identity.seed:
                yield f"{record.key} has the {said} of {first.key}, another seed: it is a copy; remove it"


def _other_training(one: Record, two: Record) -> bool:
    """Whether two records cannot have the same weights: their seeds or their data differ.
    One training that was evaluated in two ways has the same weights, and so may two tasks of a user's suite."""
    ours, theirs = one.identity, two.identity
    known = ours.suite in SUITES or theirs.suite in SUITES
    return ours.seed != theirs.seed or _sha(one) != _sha(two) or (known and ours.task != theirs.task)


def twice(records: Sequence[Record]) -> Iterator[str]:
    """Two records of one cell of the board: the check does not guess which one counts.
    A variant names every difference from the preset. Another release, other simulators or data make another cell."""
    seen: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in _by_start(records):
        cell, versions = record.identity, Setting.of(record).versions
        same = seen[RowId.of(record), cell.suite, cell.source, cell.preset, cell.task, cell.seed, versions]
        first = next((other for other in same if None in (shas := {_sha(record), _sha(other)}) or len(shas) == 1), None)
        if first is not None:
            yield f"{record.key} is the same cell of the board as {first.key}; remove one of the two"
        same.append(record)


def _sha(record: Record) -> str | None:
    """Hash of the data; None in a failed record that never saw them."""
    return None if record.identity.data is None else record.identity.data.sha256


def _other_data(one: DataSummary, two: DataSummary) -> str:
    """The first field in which two summaries of the same content differ; empty when none does.
    Names and normalisers may differ. So may the last digits of a sum."""
    slack = 1e-6 * max(1.0, abs(one.return_min), abs(one.return_max))
    for name in ("episodes", "steps", "rewards", "return_mean", "return_std", "return_min", "return_max"):
        ours, theirs = getattr(one, name), getattr(two, name)
        alike = isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=slack)
        if ours != theirs and not alike:
            return name
    return ""


def _other_size(records: Sequence[Record]) -> Iterator[str]:
    """Records of one row and task whose agents differ in size between seeds. An older record may lack a size."""
    for group in comparable_groups(records):
        first: dict[tuple[RowId, str, str], tuple[float, Record]] = {}
        for record in _by_start(group.records):
            for column in (one for one in columns.COSTS if one.counted and record.cost is not None):
                ours = None if record.cost is None else column.read(record.cost)
                if ours is None:
                    continue
                cell = RowId.of(record), record.identity.task, column.key
                theirs, other = first.setdefault(cell, (ours, record))
                if ours != theirs:
                    said = f"{record.key} has {column.name} {ours}, and {other.key} of its row has {theirs}"
                    yield f"{said}; restore them"


def _not_matched(records: Sequence[Record]) -> Iterator[str]:
    """Rows that claim a matched number of parameters and do not have it."""
    parts = [(one.key, one.identity, one.cost.parameters_total) for one in records if one.cost is not None]
    there = together(
        (_beside(cell, cell.backbone), size) for _, cell, size in parts if matched_to(cell.variant) is None
    )
    for key, cell, ours in sorted(parts, key=itemgetter(0)):
        reference = matched_to(cell.variant)
        sizes = there.get(_beside(cell, reference), ()) if reference is not None else ()
        if sizes and min(abs(ours - size) / max(size, 1) for size in sizes) > MATCHED:
            said = f"{key} is said to be matched to {reference}, and has {ours:,} parameters to its {sizes[0]:,}"
            yield f"{said}; remove it"


def _not_tuned(records: Sequence[Record]) -> Iterator[str]:
    """Records that claim a tuned setting which the trials beside them did not choose."""
    trials = tunings(records)
    for record in _by_start(records):
        if (tag := tuned(record.identity.variant)) is None:
            continue
        found, setting = trials.get(key_of(record)), setting_of(record.identity.variant, tag)
        if record.identity.seed == SELECTION:
            yield f"{record.key} is said to be tuned, and has the seed of trials, {SELECTION}; remove it"
        elif found is None or not found.complete:
            budget = tag.partition(":")[0]
            wanted = f"the trials that use up {budget}" if flops_of(tag) else f"all {budget} trials"
            yield f"{record.key} is said to be tuned, and not {wanted} are there; add them"
        elif found.best != setting:
            yield f"{record.key} is said to be tuned to {setting}, and its trials chose {found.best}; remove it"


def _beside(cell: Identity, backbone: str) -> tuple[object, ...]:
    """What a row and its matched reference, the row of ``backbone``, have in common: all but the width."""
    words = without(cell.variant, MATCH, WIDTH)
    if (tag := tuned(words) or trial(words)) is not None:  # which setting was chosen changes no size
        words = without(words, *setting_of(words, tag).split())
    return backbone, cell.suite, cell.preset, cell.source, cell.task, cell.seed, words


def _by_start(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda one: (one.provenance.started, one.key))
