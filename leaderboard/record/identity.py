"""What makes a cell this cell and no other: its digest, its key, and the words of its variant."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

COSMETIC = ("log_every", "checkpoint_every")  # settings of training that change no result: no digest has them
# Settings that are younger than published records -> what those did. A cell with this value keeps the key that it had.
ADDED: dict[str, Any] = {
    "model.init": "gpt2", "model.residual_scale": True, "model.tokens": "rsa", "data.windows": "uniform",
    "data.top": 1.0, "data.episodes": 0, "data.held_out": 0,
    "train.decay": "matrices", "train.schedule_steps": 0, "train.cuda_graphs": False, "train.processes": 1,
    "eval.timestep": "first", "eval.curve_episodes": 0, "eval.lengths": [], "task.observe": None, "task.longer": {},
    "atari.stack": 4, "options.kv_heads": 0, "options.positions": "none", "options.window": 0, "options.norm": "layer",
    "options.bias": True, "options.eigenvalues": "positive",
    "options.branches": "both", "options.windows": [],
}  # fmt: skip
MATCHED = 0.03  # largest relative difference in parameters from the reference that ``match=params`` accepts
MATCH = "match="  # start of the word that asks for a matched width: ``match=params`` or ``match=params:BACKBONE``
WIDTH = "model.d_model="  # start of the word that sets a width
_MATCHED_TO = f"{MATCH}params:"
# Words of tuned cells and of their trials: how many settings were tried, their keys, and a digest of what was tried.
# ``tune=4:train.lr:0a1b2c3d`` and ``trial=4:train.lr:0a1b2c3d``. ``2e15flops:…``: as many as so many FLOPs of training
# allow.
TUNE, TRIAL = "tune=", "trial="
TAG = re.compile(r"([1-9]\d{0,5}|[1-9](\.\d{1,2})?e\d{1,2}flops):[\w.]+(\+[\w.]+)*:(tpe)?[0-9a-f]{8}")
PROPOSED = "tpe"  # begins the digest of settings that a sampler proposed, each after the results of earlier ones
FLOPS = "flops"  # ends a budget of FLOPs
SELECTION = 1_000_000  # the training seed of trials, and what is added to the seed of their evaluation


def cell_digest(mapping: Mapping[str, Any]) -> str:
    """First 8 hex digits of the SHA-256 of ``mapping`` as JSON: sorted keys, no spaces, ASCII. 1 and 1.0 differ.
    Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold (NaN, infinities, objects)."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:8]


def config_digest(config: Mapping[str, Any]) -> str:
    """Digest of a cell's resolved settings: the last part of its key, 8 hex digits.
    It ignores the ``COSMETIC`` settings, those of ``ADDED`` at their old value, and ``variant``, which only repeats
    what the settings hold, except for its ``match``, ``tune`` and ``trial`` words: a matched width or a tuned setting
    is another row, even where it equals the preset's."""
    content = without_added(config)
    content["train"] = {name: value for name, value in content["train"].items() if name not in COSMETIC}
    variant: str = content.pop("variant")
    for name, starts in (("match", MATCH), ("tuning", (TUNE, TRIAL))):
        if words := [word for word in variant.split() if word.startswith(starts)]:
            content[name] = words
    return cell_digest(content)


def without_added(config: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's settings without those of ``ADDED`` at their old value: equal for older and newer records of a cell."""
    return {
        group: {name: one for name, one in value.items() if not _as_before(f"{group}.{name}", one)}
        if isinstance(value, Mapping)
        else value
        for group, value in config.items()
    }


def added(group: str) -> dict[str, Any]:
    """The settings of ``ADDED`` in a group, such as ``train``, at their old value."""
    return {name.partition(".")[2]: one for name, one in ADDED.items() if name.startswith(f"{group}.")}


def newer(group: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a group that are in ``ADDED`` and have another than their old value."""
    names = [name for name in settings if f"{group}.{name}" in ADDED]
    return {name: settings[name] for name in names if not _as_before(f"{group}.{name}", settings[name])}


def _as_before(name: str, value: Any) -> bool:
    return name in ADDED and type(value) is type(ADDED[name]) and value == ADDED[name]


def cell_key(backbone: str, task: str, source: str, preset: str, seed: int, digest: str) -> str:
    """Stable name of a cell, ``{backbone}.{task}.{source}.{preset}.s{seed}.{digest}``, safe as a file name.
    ``digest`` is ``config_digest`` of its settings. Characters other than letters, digits and ``_ + = -`` become ``-``,
    so that a dot always separates."""
    names = [re.sub(r"[^A-Za-z0-9_+=-]", "-", name)[:40] for name in (backbone, task, source, preset)]
    return ".".join([*names, f"s{seed}", digest])


# A variant is the overrides of the preset in one line: ``match=params:mamba model.d_model=96 train.lr=0.01``.
def overridden(variant: str) -> set[str]:
    """Keys of the settings that a variant overrides, such as ``train.lr``."""
    return {word.partition("=")[0] for word in variant.split()}


def matched_to(variant: str) -> str | None:
    """Backbone whose number of parameters a variant's width was matched to. None where the width was not matched."""
    return next((word.removeprefix(_MATCHED_TO) for word in variant.split() if word.startswith(_MATCHED_TO)), None)


def tuned(variant: str) -> str | None:
    """How a variant was chosen, such as ``4:train.lr:0a1b2c3d``. None where it was not tuned."""
    return _tag(variant, TUNE)


def trial(variant: str) -> str | None:
    """Which tuning a variant is a trial of, such as ``4:train.lr:0a1b2c3d``. None where it is none."""
    return _tag(variant, TRIAL)


def _tag(variant: str, start: str) -> str | None:
    found = (word.removeprefix(start) for word in variant.split() if word.startswith(start))
    return next((tag for tag in found if TAG.fullmatch(tag)), None)


def tuning_tag(settings: Collection[str], tasks: Collection[str]) -> str:
    """The tag of a tuning: number of settings, their keys, and a digest of settings and tasks.
    A setting is its words, sorted: ``train.clip=1 train.lr=0.001``."""
    keys = sorted({word.partition("=")[0] for setting in settings for word in setting.split()})
    digest = cell_digest({"settings": sorted(settings), "tasks": sorted(tasks)})
    return f"{len(settings)}:{'+'.join(keys)}:{digest}"


def flops_of(tag: str) -> float:
    """The budget of a tuning in FLOPs of training; 0 if it is a number of settings."""
    budget = tag.partition(":")[0]
    return float(budget.removesuffix(FLOPS)) if budget.endswith(FLOPS) else 0.0


def proposed_tag(budget: str, space: Collection[str], tasks: Collection[str]) -> str:
    """The tag of a tuning whose settings are proposed one after another, from a space such as
    ``train.lr=interval(0.001,0.1)``. ``budget``: their number, or FLOPs such as ``2e15flops``. The digest is of space
    and tasks, as the settings are not known in advance."""
    keys = sorted({word.partition("=")[0] for word in space})
    return f"{budget}:{'+'.join(keys)}:{PROPOSED}{cell_digest({'space': sorted(space), 'tasks': sorted(tasks)})}"


def without(variant: str, *starts: str) -> str:
    """A variant without the words that start with one of ``starts``, such as ``MATCH`` or ``WIDTH``."""
    return " ".join(word for word in variant.split() if not word.startswith(starts))


def with_match(variant: str, reference: str, width: int) -> str:
    """A variant after its width was matched to that of the backbone ``reference``."""
    return f"{without(variant, WIDTH)} {_MATCHED_TO}{reference} {WIDTH}{width}".lstrip()
