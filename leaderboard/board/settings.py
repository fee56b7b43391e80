"""What must be equal before two scores are compared.
Versions of Backbench and of the simulators must be equal. Those of torch and NumPy may differ: a note says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from backbench.leaderboard.record.identity import (
    COSMETIC,
    FLOPS,
    MATCH,
    PROPOSED,
    TUNE,
    added,
    cell_digest,
    matched_to,
    newer,
    overridden,
    tuned,
    without,
    without_added,
)
from backbench.leaderboard.record.returns import MEMORY
from backbench.leaderboard.record.schema import Identity, Record

Pairs = tuple[tuple[str, str], ...]
_json = json.JSONEncoder(sort_keys=True).encode
LAYOUT = {"data.windows": "uniform", "model.timestep": "step", "model.tokens": "rsa"}  # and what older records did
WIDTH_BY_TASK = ("paper-decision-mamba",)  # presets whose tasks differ in width: it does not tell rows apart


@dataclass(frozen=True, order=True)
class Setting:
    """What is equal for all tasks of one table."""

    suite: str
    source: str
    preset: str
    acting: str
    timestep: str
    sampling: str
    episodes: int
    eval_seed: int
    normaliser: str
    suite_tasks: tuple[str, ...]  # Of a user's suite; empty for the known ones.
    tuning: str  # How settings were chosen, such as 4:train.lr:0a1b2c3d; empty where they are the preset's.
    versions: Pairs  # (package, version) of Backbench and of the simulators, sorted.

    @property
    def title(self) -> str:
        """The heading of its table."""
        count, _, keys = self.tuning.rpartition(":")[0].partition(":")
        by = " that Optuna proposed" if self.tuning.rpartition(":")[2].startswith(PROPOSED) else ""
        budget = f"{count.removesuffix(FLOPS)} FLOPs for" if count.endswith(FLOPS) else count
        tuned = f", tuned: {budget} settings of {keys.replace('+', ', ')}{by}" if self.tuning else ""
        return f"{self.suite}, data {self.source}, preset {self.preset}, acting {self.acting}{tuned}"

    @classmethod
    def of(cls, record: Record) -> Setting:
        environment, packages = record.identity.environment, record.provenance.packages
        names = ["backbench", "gymnasium"]
        if not environment.startswith(MEMORY):
            names.append("ale-py" if environment.startswith("ALE/") else "mujoco")
        if environment.startswith("gymnasium_robotics:"):
            names.append("gymnasium-robotics")
        versions = tuple((name, packages.get(name, "unknown")) for name in sorted(names))
        known: dict[str, Any] = {"versions": versions, "tuning": tuned(record.identity.variant) or ""}
        for spec in fields(cls):
            if spec.name not in known:
                of = record.identity if spec.name in Identity.model_fields else record.protocol
                known[spec.name] = getattr(of, spec.name)
        return cls(**known)


def unequal(ours: Iterable[tuple[str, str]], theirs: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(name, value in ``ours``, value in ``theirs``) of the names that both have with different values."""
    others = dict(theirs)
    return [(name, value, others[name]) for name, value in ours if others.get(name, value) != value]


@dataclass(frozen=True)
class TaskSetting:
    """What is equal for all rows of one task, and may differ between tasks."""

    context: int
    targets: tuple[float, ...]
    max_steps: int
    environment: str
    returns_to_go: str
    conventions: str  # Of the environment, beyond its id, as JSON.
    return_scale: float  # 0 where a record does not say.
    reference: tuple[float, float]  # Returns that score 0 and 100, if the suite declares them; else two zeros.
    layout: str  # Tokens, time and windows, which are part of the protocol.
    # (name, value as JSON), sorted, of the settings of training, without those that the row's variant names. A record
    # with other settings than its variant says is another experiment.
    training: Pairs
    data_sha256: str | None  # None in a failed record that never saw its data: it agrees with any data.

    @classmethod
    def of(cls, record: Record) -> TaskSetting:
        protocol, data = record.protocol, record.identity.data
        train, said = record.provenance.config.get("train"), overridden(record.identity.variant)
        known = {**added("train"), **train} if isinstance(train, dict) else {}
        names = sorted(name for name in known if f"train.{name}" not in said and name not in COSMETIC)
        return cls(
            **{name: getattr(protocol, name) for name in ("context", "targets", "max_steps", "returns_to_go")},
            environment=record.identity.environment,
            conventions=_json(protocol.environment),
            return_scale=protocol.return_scale or 0.0,
            reference=protocol.reference or (0.0, 0.0),
            layout=_layout(record.provenance.config),
            training=tuple((name, _json(known[name])) for name in names),
            data_sha256=None if data is None else data.sha256,
        )

    def agrees(self, other: TaskSetting) -> bool:
        """Whether both could be the same setting."""
        if None not in (hashes := {self.data_sha256, other.data_sha256}) and len(hashes) > 1:
            return False
        ours, theirs = (replace(one, data_sha256=None, training=()) for one in (self, other))
        return ours == theirs and not unequal(self.training, other.training)

    def joined(self, other: TaskSetting) -> TaskSetting:
        """This setting, with what only ``other``, which agrees with it, knows."""
        training = tuple(sorted({**dict(other.training), **dict(self.training)}.items()))
        return replace(self, training=training, data_sha256=self.data_sha256 or other.data_sha256)


def _layout(config: Mapping[str, Any]) -> str:
    words = []
    for name, usual in LAYOUT.items():
        group, _, key = name.partition(".")
        of = config.get(group)
        words.append(f"{name}={of.get(key, usual) if isinstance(of, Mapping) else usual}")
    return " ".join(words)


@dataclass(frozen=True, order=True)
class RowId:
    """A row of a table: a backbone with its options and its overrides of the preset."""

    backbone: str
    variant: str
    digest: str  # Of the options, the model's size and its start: a plug-in with new defaults is another row.

    @classmethod
    def of(cls, record: Record) -> RowId:
        cell = record.identity
        width = 0 if cell.preset in WIDTH_BY_TASK else cell.model.d_model
        shape = [width, cell.model.n_layers, cell.model.dropout]
        start = newer("model", cell.model.extra)
        options = without_added({"options": cell.options})["options"]
        content = {"options": options, "model": shape, **({"start": start} if start else {})}
        return cls(cell.backbone, cell.variant, cell_digest(content))

    @property
    def matched(self) -> str | None:
        """Backbone whose number of parameters this row's width was matched to; None where it was not."""
        return matched_to(self.variant)

    @property
    def control(self) -> str | None:
        """``identity``, ``mlp``, or ``%BC``: behaviour cloning on the best steps, without a target return."""
        return "%BC" if self._best_steps else self.backbone if self.backbone in ("identity", "mlp") else None

    @property
    def _best_steps(self) -> str:
        """Percentage of the steps that ``identity`` was trained on; empty where it saw all, and for other backbones."""
        word = next((word for word in self.variant.split() if word.startswith("data.top=")), "")
        share = re.fullmatch(r"data\.top=(\d*\.?\d+(?:e-?\d+)?)", word)
        top = float(share[1]) if share and self.backbone == "identity" else 1.0
        return f"{100 * top:g} %" if 0 < top < 1 else ""

    @property
    def label(self) -> str:
        """Backbone and variant, with a matched width in words; the control %BC by its name in the literature.
        How a setting was tuned is said above the table."""
        words = [variant := without(self.variant, TUNE)]
        if self.matched is not None:
            words = [f"matched to {self.matched}", without(variant, f"{MATCH}params:")]
        if self._best_steps:
            return f"%BC {self._best_steps} ({', '.join(filter(None, [self.backbone, *words]))})"
        return f"{self.backbone} ({', '.join(filter(None, words))})" if variant else self.backbone


def row_labels(rows: Sequence[RowId]) -> list[str]:
    """The label of each row, with some digits of its digest where the label alone is not unique."""
    labels = [row.label for row in rows]
    return [
        f"{label} #{row.digest[:4]}" if labels.count(label) > 1 else label
        for row, label in zip(rows, labels, strict=True)
    ]
