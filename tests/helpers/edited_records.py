"""Records with changed fields, and the commit that they name."""

from __future__ import annotations

import json
from typing import Any

from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.normalise import normalise

COMMIT = "0123456789abcdef"


def changed(record: Record, **fields: Any) -> Record:
    """``record`` with some fields set, ``__`` between names and places."""
    content = json.loads(record.model_dump_json())
    for name, value in fields.items():
        *folders, last = name.split("__")
        part = content
        for folder in folders:
            part = part[int(folder) if isinstance(part, list) else folder]
        part[last] = value
    return Record.model_validate_json(json.dumps(content))


def scored(record: Record, *returns: float) -> Record:
    """``record`` with other returns for its first target, and all that follows from them."""
    mean = sum(returns) / len(returns)
    headline = "scores__last__targets__0__"
    points = normalise("d4rl", "hopper-medium", mean)
    values = {"returns": returns, "raw_mean": mean, "normalised_mean": points}
    # The best checkpoint may be the last one, whose score this is.
    last = changed(record, **{f"{headline}{name}": value for name, value in values.items()})
    if record.scores is None or record.scores.best is None or record.scores.best.step != record.scores.last.step:
        return last
    return changed(last, **{f"{headline.replace('last', 'best')}{name}": value for name, value in values.items()})
