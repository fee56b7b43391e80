"""Synthetic records with all of their settings and the key that these make."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from record_factory import make_record

from backbench.leaderboard.record.files import canonical
from backbench.leaderboard.record.identity import cell_key, config_digest
from backbench.leaderboard.record.schema import Record

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PACKAGES = {"backbench": "0.1.0", "torch": "2.9.0+cpu", "numpy": "2.4.6", "gymnasium": "1.4.0", "mujoco": "4.0.0"}

# Of a record that was made before its key had a checker.
REAL_KEY = "transformer.halfcheetah-medium-replay.embedded.quick.s0.b8657911"
REAL: dict[str, Any] = {
    "atari": None,
    "backbone": "transformer",
    "data": {"rewards": "auto", "source": "embedded", "steps": 50000},
    "eval": {
        "acting": "window", "episodes": 10, "max_steps": 0, "seed": 1000, "targets": [], "temperature": 1.0,
    },
    "model": {
        "context": 10, "d_model": 64, "dropout": 0.0, "embedding": "norm", "encoder": "light", "n_layers": 2,
        "timestep": "step",
    },
    "options": {"activation": "relu", "kernels": "auto", "n_heads": 1},
    "preset": "quick",
    "seed": 0,
    "task": {
        "data_id": "backbench/halfcheetah/medium-replay-v0", "env_id": "HalfCheetah-v5", "env_kwargs": {},
        "environment": "halfcheetah", "max_steps": 1000, "name": "halfcheetah-medium-replay", "normaliser": "d4rl",
        "pixels": False, "reference": [], "return_scale": 1000.0, "rewards": "raw", "suite": "d4rl",
        "suite_tasks": [], "targets": [5800.0, 2900.0],
    },
    "train": {
        "batch_size": 32, "betas": [0.9, 0.95], "bf16": False, "checkpoint_every": 100, "clip": 1.0, "compile": False,
        "evaluations": 1, "log_every": 25, "lr": 0.0015, "schedule": "cosine", "steps": 1800, "warmup": 50,
        "weight_decay": 0.0001,
    },
    "variant": "",
}  # fmt: skip


def put(content: Any, dotted: str, value: Any) -> None:
    """Set ``a__0__b`` of nested mappings and lists."""
    *folders, last = dotted.split("__")
    for folder in folders:
        content = content[int(folder) if isinstance(content, list) else folder]
    content[int(last) if isinstance(content, list) else last] = value


def rekeyed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a record with the key that its settings make."""
    cell = content["identity"]
    digest = config_digest(content["provenance"]["config"])
    names = (cell[name] for name in ("backbone", "task", "source", "preset", "seed"))
    return {**content, "key": cell_key(*names, digest)}


def whole_record(
    backbone: str = "transformer",
    task: str = "hopper-medium",
    seed: int = 0,
    config: Sequence[tuple[str, Any]] = (),
    **changes: Any,
) -> Record:
    """A synthetic record with all of its settings and their key; ``config`` and ``changes`` set single fields of it.

    The key is that of the settings before the changes.
    """
    inner = {name: value for name, value in changes.items() if "__" not in name}
    record = make_record(backbone, task, seed, **{"source": "embedded", **inner})
    content = json.loads(canonical(record))
    cell, protocol = content["identity"], content["protocol"]
    settings = copy.deepcopy(REAL)
    settings |= {"backbone": backbone, "seed": seed, "options": cell["options"], "variant": cell["variant"]}
    settings |= {"preset": cell["preset"]}
    settings["model"] |= {name: cell["model"][name] for name in ("d_model", "n_layers", "dropout", "context")}
    settings["data"]["source"] = cell["source"]
    settings["task"] |= {"name": task, "suite": cell["suite"], "env_id": cell["environment"]}
    settings["task"] |= {"data_id": cell["data"]["id"], "targets": protocol["targets"], "return_scale": 1000.0}
    settings["eval"] |= {"episodes": protocol["episodes"], "seed": protocol["eval_seed"]}
    settings["train"] |= {"steps": 2000, "batch_size": 20, "evaluations": 2}
    for name, value in config:
        put(settings, name, value)
    content["provenance"] |= {"config": settings, "packages": dict(PACKAGES)}
    if any(name.startswith(("provenance__hardware__", "provenance__platform")) for name in changes):
        content["provenance"]["started"] = "2026-02-03T04:05:06Z"
        if content.get("cost") is not None:
            content["cost"] |= {"train_seconds": 59.0, "wall_seconds": 81.25}
    content = rekeyed(content)
    for name, value in changes.items():
        if "__" in name:
            put(content, name, value)
    return Record.model_validate_json(json.dumps(content))
