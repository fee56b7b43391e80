"""Synthetic views, as ``backbench.leaderboard.views.tables.to_view`` makes them; equal arguments give equal ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from backbench.leaderboard.board.mechanisms import mechanism

TASKS = tuple(
    f"{body}-{data}"
    for body in ("halfcheetah", "hopper", "walker2d")
    for data in ("medium", "medium-replay", "medium-expert")
)
NAMES = ("gloma", "transformer", "mamba", "mlp", "identity", "rwkv", "lstm", "s5")
COSTS = (
    "parameters",
    "parameters_backbone",
    "flops_per_token",
    "train_tokens_per_s",
    "decision_p50_ms",
    "decision_p95_ms",
    "peak_memory_mb",
    "wall_seconds",
)


def interval(value: float, width: float, n: int = 3) -> dict[str, Any]:
    return {"value": value, "low": value - width, "high": value + width, "over": "seeds", "n": n}


def make_row(
    label: str, index: int = 0, *, prefix: str = "d4rl", seeds: Sequence[int] = (0, 1, 2), tasks: Sequence[str] = TASKS
) -> dict[str, Any]:
    """A complete row; its numbers depend on ``label`` and ``index`` alone."""
    rng = random.Random(f"{label} {index}")
    base = 60.0 - 3 * index
    scores, curves, targets = {}, {}, {}
    for number, task in enumerate(tasks):
        values = [round(base + 4 * number + rng.uniform(-4, 4), 3) for _ in seeds]
        value = round(sum(values) / len(values), 3)
        scores[task] = {
            "value": value,
            "low": min(values),
            "high": max(values),
            "over": "seeds",
            "method": "bootstrap",
            "n": len(seeds),
            "seeds": list(seeds),
            "values": values,
            "ratio": round(value / 44, 3),
            "raw": round(value * 32, 2),
        }
        curves[task] = [
            [step, loss := round(0.1 + (0.6 + 0.02 * index) / (1 + step / 150), 4), loss * 0.9, loss * 1.1]
            for step in range(25, 2025, 25)
        ]
        targets[task] = [[1800.0, round(1500 + 20 * value, 1), 40.0], [3600.0, round(32 * value, 1), value]]
    aggregates = {
        "mean": interval(base + 16, 3),
        "median": interval(base + 15, 4),
        "iqm": interval(base + 15.5, 3.5),
        "optimality_gap": interval(0.3 + 0.03 * index, 0.03),
    }
    taus = [float(tau) for tau in range(0, 121, 4)]
    share = [1 / (1 + 2.7 ** ((tau - base - 16) / 9)) for tau in taus]
    scale = 1 + 0.7 * index
    costs = (26_000.0, 20_000.0, 460_000.0, 25_000.0, 1.3, 1.6, 520.0, 90.0)
    return {
        "id": f"{prefix}-row-{index}",
        "label": label,
        "backbone": label,
        "mechanism": mechanism(label),
        "variant": "",
        "options": {"n_heads": 4, "kernels": "auto"},
        "model": {"d_model": 64, "n_layers": 2, "context": 10},
        "matched": None,
        "control": label if label in ("identity", "mlp") else None,
        "trust": "self-reported",
        "machines": 1,
        "agreement": None,
        "reproduced_cells": 0,
        "tuning": None,
        "twin": None,
        "longer": [],
        "cells": len(tasks) * len(seeds),
        "failed": [],
        "missing": [],
        "seeds": list(seeds),
        "scores": scores,
        "aggregates": aggregates,
        "profile": {
            "tau": taus,
            "share": [round(one, 4) for one in share],
            "low": [round(max(0.0, one - 0.06), 4) for one in share],
            "high": [round(min(1.0, one + 0.06), 4) for one in share],
        },
        "cost": {name: round(cost * scale, 3) for name, cost in zip(COSTS, costs, strict=True)},
        "spread": {
            name: [round(0.9 * cost * scale, 3), round(1.2 * cost * scale, 3)]
            for name, cost in zip(COSTS, costs, strict=True)
        },
        "curves": curves,
        "evaluations": {task: [[1000, 40.0], [2000, scores[task]["value"]]] for task in tasks[:2]},
        "targets": targets,
        "records": [f"{prefix}-{index}.{task}.s{seed}.0a1b2c3d" for task in tasks for seed in seeds],
    }


def make_section(
    section: str = "d4rl-embedded-quick-window",
    rows: int = 5,
    *,
    suite: str = "d4rl",
    source: str = "embedded",
    preset: str = "quick",
    acting: str = "window",
    tasks: Sequence[str] = TASKS,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """A section of ``rows`` complete rows, the first the best."""
    labels = [NAMES[index] if index < len(NAMES) else f"backbone-{index}" for index in range(rows)]
    made = [make_row(label, index, prefix=section, seeds=seeds, tasks=tasks) for index, label in enumerate(labels)]
    gain = [
        {
            "x": x["id"],
            "y": y["id"],
            "probability": 0.5 + share,
            "low": 0.4 + share,
            "high": min(1.0, 0.6 + share),
            "decided": share > 0.1,
        }
        for i, x in enumerate(made)
        for j, y in enumerate(made)
        if i != j
        for share in [max(-0.4, min(0.4, 0.07 * (j - i)))]
    ]
    paired = [
        {
            "x": x["id"],
            "y": y["id"],
            "difference": 3.0 * (j - i),
            "low": 3.0 * (j - i) - 4,
            "high": 3.0 * (j - i) + 4,
            "over": "seeds and starts",
            "decided": j - i > 1,
        }
        for i, x in enumerate(made)
        for j, y in enumerate(made)
        if i != j
    ]
    return {
        "id": section,
        "title": f"{suite}, data {source}, preset {preset}, acting {acting}",
        "suite": suite,
        "source": source,
        "preset": preset,
        "acting": acting,
        "sampling": "deterministic",
        "episodes": 10,
        "eval_seed": 1000,
        "tuning": "",
        "normaliser": "d4rl",
        "citation": "D4RL, 100 * (return - random) / (expert - random), Fu et al. 2020 (arXiv:2004.07219)",
        "versions": {"gymnasium": "1.4.0", "mujoco": "4.0.0"},
        "tasks": list(tasks),
        "complete": True,
        "apart": [],
        "apart_from": None,
        "measured": "Costs: medians over a row's cells, measured on a CPU.",
        "undecided_costs": [],
        "notes": [],
        "task_settings": {
            task: {
                "context": 10,
                "targets": [3600.0, 1800.0],
                "max_steps": 1000,
                "environment": "Hopper-v5",
                "returns_to_go": "raw",
                "data_sha256": "ab" * 32,
            }
            for task in tasks
        },
        "data": dict.fromkeys(tasks, 44.0),
        "data_mean": 44.0,
        "data_iqm": 43.5,
        "rows": made,
        "improvement": gain,
        "paired": paired,
        "decided": [],
        "decided_of": 0,
        "pareto": {name: [made[0]["id"]] if made else [] for name in COSTS},
        "reported": [
            {
                "method": method,
                "task": task,
                "score": 80.0 + index,
                "std": 1.3 if index % 2 else None,
                "unit": "d4rl_normalized",
                "citation": "RATE (arXiv:2306.09459) Table 3",
                "note": "secondary transcription",
            }
            for method in ("DT", "Decision Mamba")
            for index, task in enumerate(tasks)
        ],
        "reproduction": [],
    }


def make_record(key: str, section: dict[str, Any], row: dict[str, Any], task: str, seed: int) -> dict[str, Any]:
    """What a page reads of a record, and a little more."""
    returns = [round(1000 + 100 * episode + seed, 2) for episode in range(3)]
    last = {"returns": returns, "lengths": [500, 600, 700], "raw_mean": 1100.0 + seed, "normalised_mean": 40.0}
    return {
        "schema_version": 1,
        "key": key,
        "status": "done",
        "identity": {"backbone": row["backbone"], "options": row["options"], "suite": section["suite"], "task": task},
        "protocol": {"episodes": 3, "targets": [3600.0, 1800.0]},
        "scores": {
            "last": {"step": 2000, "targets": [{"target": 3600.0, **last}, {"target": 1800.0, **last}]},
            "best": None,
        },
        "curve": {"loss": [[0, 1.0], [1000, 0.25]], "evaluations": []},
        "provenance": {
            "command": f"bench run --backbone {row['backbone']} --suite {section['suite']}",
            "kernels": {"selective_scan": "cpp"},
            "hardware": {"cpu": "Example CPU", "cores": 2, "gpu": None},
            "packages": {"torch": "2.9.0"},
            "git_dirty": False,
        },
        "failure": None,
    }


def make_view(sections: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A view of ``sections``, one of five rows when none are given, with a record for each key of each row."""
    found = [make_section()] if sections is None else list(sections)
    cells = {}
    for section in found:
        for row in section["rows"]:
            for key in row["records"]:
                task, seed = key.split(".")[1], int(key.split(".")[2][1:])
                cells[key] = {
                    "section": section["id"],
                    "row": row["id"],
                    "task": task,
                    "seed": seed,
                    "status": "done",
                    "score": row["scores"][task]["value"] if task in row["scores"] else 40.0,
                    "record": make_record(key, section, row, task, seed),
                }
    return {
        "version": 1,
        "records": len(cells),
        "digest": "0123456789abcdef" * 4,
        "sections": found,
        "failed": [],
        "cells": cells,
    }
