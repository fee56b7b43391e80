"""Records of any suite: its tasks, its normaliser, and returns in units of each task's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from record_factory import make_record

from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.normalise import bounds, normalise


def suite_records(
    suite: str,
    normaliser: str,
    backbones: Sequence[str] = ("gloma", "mamba"),
    seeds: Sequence[int] = (0, 1),
    **cost: Any,
) -> list[Record]:
    """Every task with every seed. Suites that are not Backbench's have four tasks. ``cost`` changes fields of it."""
    known = SUITES.get(suite)
    tasks = known or ("walk", "swim", "fly", "dig")
    records = []
    for number, backbone in enumerate(backbones):
        for index, task in enumerate(tasks):
            reference = (10.0, 20.0 + index) if normaliser == "declared" else None
            low, high = (0.0, 10.0**index) if normaliser == "none" else bounds(normaliser, task, reference)
            for seed in seeds:
                content = make_record(backbone, seed=seed).model_dump(mode="json")
                content["identity"] |= {"suite": suite, "task": task, "suite_tasks": [] if known else list(tasks)}
                content["protocol"] |= {"normaliser": normaliser, "reference": reference}

                def raw(share: float, low: float = low, high: float = high) -> float:
                    return low + share * (high - low)

                shares = [0.4 + 0.1 * number + 0.02 * seed + 0.01 * episode for episode in range(3)]
                returns = [raw(share) for share in shares]
                mean = sum(returns) / 3
                for target in content["scores"]["last"]["targets"]:
                    target |= {
                        "returns": returns, "raw_mean": mean,
                        "normalised_mean": normalise(normaliser, task, mean, reference),
                    }  # fmt: skip
                ends = sorted((raw(0.1), raw(0.7)))
                content["identity"]["data"] |= {
                    "return_mean": raw(0.4), "return_min": ends[0], "return_max": ends[1],
                    "normalised_mean": normalise(normaliser, task, raw(0.4), reference),
                }  # fmt: skip
                content["curve"]["evaluations"] = []
                content["cost"] |= cost
                content["key"] = f"{backbone}.{suite}.{task}.s{seed}"
                records.append(Record.model_validate(content))
    return records


def success_record(
    backbone: str,
    task: str,
    seed: int,
    arrived: int,
    *,
    episodes: int = 10,
    environment: str = "gymnasium_robotics:AntMaze_UMaze-v4",
    conventions: dict[str, Any] | None = None,
) -> Record:
    """A record of AntMaze in which the first ``arrived`` of ``episodes`` reach the goal; it scores 100 there."""
    content = make_record(backbone, "hopper-medium", seed).model_dump(mode="json")
    content["identity"] |= {"suite": "d4rl-antmaze", "task": task, "environment": environment}
    content["protocol"] |= {"episodes": episodes, "environment": conventions or {"continuing_task": False}}
    returns = [1.0] * arrived + [0.0] * (episodes - arrived)
    for target in content["scores"]["last"]["targets"]:
        target |= {
            "returns": returns, "lengths": [100] * episodes, "raw_mean": arrived / episodes,
            "normalised_mean": 100 * arrived / episodes,
        }  # fmt: skip
    content["identity"]["data"] |= {
        "return_mean": 0.5, "return_min": 0.0, "return_max": 1.0, "return_std": 0.5, "normalised_mean": 50.0,
    }  # fmt: skip
    content["curve"]["evaluations"] = []
    content["key"] = f"{backbone}.{task}.s{seed}"
    return Record.model_validate(content)
