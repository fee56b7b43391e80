"""Synthetic records for tests: small, valid, and changed field by field through dotted names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backbench.leaderboard.record.identity import cell_digest, cell_key
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import d4rl_bounds


def raw_return(task: str, score: float) -> float:
    """The raw return that has this D4RL score."""
    low, high = d4rl_bounds(task.partition("-")[0])
    return low + (high - low) * score / 100


def make_record(
    backbone: str = "transformer",
    task: str = "hopper-medium",
    seed: int = 0,
    *,
    scores: Sequence[float] = (40.0, 50.0, 60.0),
    lengths: Sequence[int] | None = None,
    data_score: float = 44.0,
    source: str = "embedded",
    preset: str = "quick",
    variant: str = "",
    failed: str | None = None,
    **changes: Any,
) -> Record:
    """A record whose episodes have the D4RL ``scores``, or a failed one with the message ``failed``.

    ``changes`` set single fields, with ``__`` between the names: ``protocol__acting="recurrent"``.
    """
    mean = sum(scores) / len(scores)
    data_raw = raw_return(task, data_score)
    headline = {
        "target": 3600.0,
        "returns": [raw_return(task, score) for score in scores],
        "lengths": list(lengths or [1000] * len(scores)),
        "raw_mean": raw_return(task, mean),
        "normalised_mean": mean,
    }
    options = {"n_heads": 4}
    digest = cell_digest({"backbone": backbone, "options": options, "variant": variant, "changes": repr(changes)})
    content: dict[str, Any] = {
        "key": cell_key(backbone, task, source, preset, seed, digest),
        "status": "done",
        "identity": {
            "backbone": backbone,
            "options": options,
            "model": {"d_model": 32, "n_layers": 2, "dropout": 0.1, "context": 20, "tokens_per_step": 3},
            "suite": "d4rl",
            "task": task,
            "source": source,
            "environment": f"{task.partition('-')[0].capitalize()}-v5",
            "data": {
                "id": f"{source}/{task}-v0",
                "sha256": (cell_digest({"data": [source, task]}) * 8),
                "episodes": 100,
                "steps": 50_000,
                "return_mean": data_raw,
                "return_std": 100.0,
                "return_min": data_raw - 500.0,
                "return_max": data_raw + 500.0,
                "normalised_mean": data_score,
            },
            "preset": preset,
            "seed": seed,
            "variant": variant,
        },
        "protocol": {
            "context": 20,
            "targets": [3600.0, 1800.0],
            "episodes": len(scores),
            "acting": "window",
            "sampling": "greedy",
            "max_steps": 1000,
            "eval_seed": 10_000,
            "normaliser": "d4rl",
        },
        "scores": {"last": {"step": 2000, "targets": [headline, {**headline, "target": 1800.0}]}},
        "cost": {
            "parameters_total": 27_000,
            "parameters_backbone": 25_000,
            "flops_per_token": 5.0e4,
            "train_tokens_per_s": 41_000.0,
            "train_seconds": 60.0 + seed / 1000,  # no two runs take equal times
            "eval_seconds": 20.0,
            "cpu_seconds": 80.0,
            "decision": {"p50_ms": 1.5, "p95_ms": 2.5, "batch": 10},
            "peak_memory_mb": 400.0,
            "wall_seconds": 82.0,
        },
        "curve": {
            "loss": [(0, 1.0 + seed / 1e6), (1000, 0.3)],
            "evaluations": [{"step": 1000, "raw": raw_return(task, mean - 1), "normalised": mean - 1}],
        },
        "provenance": {
            "kernels": {"attention": "sdpa"},
            "device": "cpu",
            "dtype": "float32",
            "threads": 1,
            "weights_sha256": cell_digest({"weights": [backbone, task, source, preset, seed, digest]}) * 8,
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "packages": {"backbench": "0.1.0", "torch": "2.9.0"},
            "hardware": {"cpu": "Example CPU", "cores": 2, "memory_mb": 8000.0, "gpu": None},
            "python": "3.12.3",
            "platform": "Linux x86_64",
            "started": "2026-01-31T12:00:00Z",
            "config": {"train": {"lr": 1e-3, "steps": 2000}},
            "command": "bench run backbone=transformer",
        },
    }
    if failed is not None:
        content |= {"status": "failed", "failure": {"type": "NonFiniteLoss", "message": failed, "step": 7, "lr": 1e-3}}
        del content["scores"], content["cost"]
        content["provenance"]["weights_sha256"] = None
    for name, value in changes.items():
        *folders, last = name.split("__")
        part = content
        for folder in folders:
            part = part[int(folder) if isinstance(part, list) else folder]
        part[last] = value
    return Record.model_validate(content)


def full_suite(backbone: str, base: float, seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> list[Record]:
    """Records of every D4RL task; scores rise by a point a task and by two a seed, so that nothing is tied."""
    return [
        make_record(
            backbone, task, seed, scores=[base + index + 2 * seed + episode for episode in (-3, 0, 3)], **changes
        )
        for index, task in enumerate(SUITES["d4rl"])
        for seed in seeds
    ]
