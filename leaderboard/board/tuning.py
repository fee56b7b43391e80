"""Trials of a tuning: which setting was best, how many came near it, and what they cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from backbench.leaderboard.board.settings import Setting
from backbench.leaderboard.record.identity import (
    MATCH,
    PROPOSED,
    SELECTION,
    TRIAL,
    TUNE,
    WIDTH,
    flops_of,
    trial,
    tuned,
    tuning_tag,
    without,
)
from backbench.leaderboard.record.outcome import PASSES
from backbench.leaderboard.record.schema import Record

NEAR = 5.0  # normalised points below the best that still count as near it


class Key(NamedTuple):
    """What a tuned record and its trials have in common."""

    row: tuple[str, ...]  # the backbone, and the words that no tuning chose
    tag: str
    rest: tuple[str, ...]  # suite, preset, source, versions and protocol


@dataclass(frozen=True)
class Tuning:
    """The trials of one backbone."""

    tag: str  # such as ``4:train.lr:0a1b2c3d``
    # Setting, as the words of its variant -> mean normalised score over the tasks of the trials, from the last
    # checkpoint. None if a cell failed: training diverged.
    scores: Mapping[str, float | None]
    tasks: tuple[str, ...]
    cpu_seconds: float  # of all trials that did not fail
    flops: tuple[float | None, ...]  # of each setting's training, forward and backward; None if a cell failed

    @property
    def complete(self) -> bool:
        """Whether these are the settings and the tasks of the tag: every setting was tried on every task.
        Of settings that were proposed one after another, the tag knows only how many there are, or their FLOPs up to a
        setting's, and their keys."""
        ours = tuning_tag(self.scores, self.tasks)
        if budget := flops_of(self.tag):
            known = [one for one in self.flops if one is not None]
            spent = sum(known) / len(known) * len(self.flops) if known else 0.0
            return ours.split(":")[1] == self.tag.split(":")[1] and abs(budget - spent) < max(known, default=0.0)
        if self.tag.rpartition(":")[2].startswith(PROPOSED):
            return ours.rpartition(":")[0] == self.tag.rpartition(":")[0]
        return ours == self.tag

    @property
    def best(self) -> str | None:
        """The setting with the highest score, of equal ones the first by name. None where all failed."""
        order = sorted((-score, words) for words, score in self.scores.items() if score is not None)
        return order[0][1] if order else None

    @property
    def near(self) -> float:
        """Share of the settings within ``NEAR`` points of the best one."""
        known = [score for score in self.scores.values() if score is not None]
        return sum(score >= max(known) - NEAR for score in known) / len(self.scores) if known else 0.0


def setting_of(variant: str, tag: str) -> str:
    """The words of a variant that a tuning chose: ``train.lr=0.001``."""
    keys = tag.split(":")[1].split("+")
    return " ".join(word for word in variant.split() if word.partition("=")[0] in keys)


def key_of(record: Record) -> Key:
    """What a tuned record and its trials have in common."""
    cell = record.identity
    tag = tuned(cell.variant) or trial(cell.variant) or "0::"
    chosen = setting_of(cell.variant, tag).split()
    base = [word for word in without(cell.variant, TUNE, TRIAL).split() if word not in chosen]
    width = (WIDTH,) if any(word.startswith(MATCH) for word in base) else ()
    versions = (f"{name} {version}" for name, version in Setting.of(record).versions)
    starts = record.protocol.eval_seed - SELECTION * (trial(cell.variant) is not None)
    rest = " ".join(versions), " ".join(cell.suite_tasks), record.protocol.acting, record.protocol.sampling, str(starts)
    words = (word for word in base if not word.startswith(width))
    return Key((cell.backbone, *sorted(words)), tag, (cell.suite, cell.preset, cell.source, *rest))


def tunings(records: Iterable[Record]) -> dict[Key, Tuning]:
    """Key -> the trials among ``records``, of two of one cell the newest. They have their own seed, or are none.
    A setting that lacks a task which another one has is left out."""
    found: dict[Key, dict[str, dict[str, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in sorted(records, key=lambda one: (one.provenance.started, one.key)):
        tag = trial(record.identity.variant)
        if tag is not None and record.identity.seed == SELECTION:
            words = setting_of(record.identity.variant, tag)
            found[key_of(record)][words][record.identity.task] = record
    return {key: _tuning(key.tag, settings) for key, settings in found.items()}


def _tuning(tag: str, settings: Mapping[str, Mapping[str, Record]]) -> Tuning:
    tasks = sorted(set().union(*settings.values()))
    scores = {words: _mean(cells) for words, cells in sorted(settings.items()) if len(cells) == len(tasks)}
    costs = (record.cost for cells in settings.values() for record in cells.values())
    flops = (_flops(settings[words].values()) for words in scores)
    return Tuning(tag, scores, tuple(tasks), sum(cost.cpu_seconds for cost in costs if cost is not None), tuple(flops))


def _flops(cells: Iterable[Record]) -> float | None:
    total = 0.0
    for record in cells:
        train, model = record.provenance.config.get("train"), record.identity.model
        if record.cost is None or record.cost.flops_per_token is None or not isinstance(train, dict):
            return None
        updates, batch = train.get("steps"), train.get("batch_size")
        if not isinstance(updates, int) or not isinstance(batch, int):
            return None
        total += PASSES * record.cost.flops_per_token * updates * batch * model.context * model.tokens_per_step
    return total


def _mean(cells: Mapping[str, Record]) -> float | None:
    scores = [record.headline.normalised_mean for record in cells.values() if record.headline is not None]
    return sum(scores) / len(scores) if len(scores) == len(cells) else None
