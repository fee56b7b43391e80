"""What makes a cell this cell and no other: its digest, its key, and the words of its variant."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

COSMETIC = ("log_every", "checkpoint_every")  # settings of training that change no result: no digest has them
# Settings that are younger than published records -> what those did. A cell with this value keeps the key that it had.
ADDED: dict[str, Any] = {"train.cuda_graphs": False}
MATCHED = 0.03  # largest relative difference in parameters from the reference that ``match=params`` accepts
MATCH = "match="  # start of the word that asks for a matched width: ``match=params`` or ``match=params:BACKBONE``
WIDTH = "model.d_model="  # start of the word that sets a width
_MATCHED_TO = f"{MATCH}params:"


def cell_digest(mapping: Mapping[str, Any]) -> str:
    """First 8 hex digits of the SHA-256 of ``mapping`` as JSON: sorted keys, no spaces, ASCII. 1 and 1.0 differ.
    Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold (NaN, infinities, objects)."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:8]


def config_digest(config: Mapping[str, Any]) -> str:
    """Digest of a cell's resolved settings: the last part of its key, 8 hex digits.
    It ignores the ``COSMETIC`` settings, those of ``ADDED`` at their old value, and ``variant``, which only repeats
    what the settings hold, except for its ``match`` words: a matched width is another row, even where it equals the
    preset's."""
    content: dict[str, Any] = {
        group: {name: one for name, one in value.items() if not _as_before(f"{group}.{name}", one)}
        if isinstance(value, Mapping)
        else value
        for group, value in config.items()
    }
    content["train"] = {name: value for name, value in content["train"].items() if name not in COSMETIC}
    matched = [word for word in content.pop("variant").split() if word.startswith(MATCH)]
    return cell_digest({**content, "match": matched} if matched else content)


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


def without(variant: str, *starts: str) -> str:
    """A variant without the words that start with one of ``starts``, such as ``MATCH`` or ``WIDTH``."""
    return " ".join(word for word in variant.split() if not word.startswith(starts))


def with_match(variant: str, reference: str, width: int) -> str:
    """A variant after its width was matched to that of the backbone ``reference``."""
    return f"{without(variant, WIDTH)} {_MATCHED_TO}{reference} {WIDTH}{width}".lstrip()
