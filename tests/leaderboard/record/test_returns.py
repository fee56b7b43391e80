"""Bounds of possible returns."""

from __future__ import annotations

from typing import Any

import pytest
from suite_records import success_record

from backbench.leaderboard.record.returns import are_successes, return_bounds


@pytest.mark.parametrize(
    ("environment", "conventions", "bounds"),
    [
        ("ALE/Pong-v5", {}, (-21.0, 21.0)),
        ("ALE/Breakout-v5", {}, (0.0, 864.0)),
        ("ALE/Seaquest-v5", {}, (0.0, None)),
        ("ALE/Alien-v5", {}, (None, None)),
        ("Hopper-v4", {}, (-6000.0, 6000.0)),
        ("gymnasium_robotics:AntMaze_UMaze-v4", {"continuing_task": False}, (0.0, 1.0)),
        ("gymnasium_robotics:AntMaze_UMaze-v4", {"continuing_task": True}, (0.0, 500.0)),
        ("gymnasium_robotics:AntMaze_UMazeDense-v4", {"continuing_task": False}, (0.0, 500.0)),
        ("gymnasium_robotics:PointMaze_Open-v3", {"continuing_task": True}, (0.0, 500.0)),
        (
            "gymnasium_robotics:FrankaKitchen-v1",
            {"remove_task_when_completed": True, "tasks_to_complete": ["kettle", "microwave", "light switch"]},
            (0.0, 3.0),
        ),
        ("gymnasium_robotics:FrankaKitchen-v1", {}, (0.0, 2000.0)),
        ("MyOwn-v0", {}, (None, None)),
    ],
)
def test_returns_are_bounded_by_the_rules_of_the_environment(
    environment: str, conventions: dict[str, Any], bounds: tuple[float, float]
) -> None:
    assert return_bounds(environment, conventions, 500) == bounds


def test_a_return_is_a_success_only_by_the_rules_of_the_environment() -> None:
    maze = {"continuing_task": False}
    rated = [success_record("mlp", "antmaze-umaze", seed, 7) for seed in (0, 1)]
    assert rated[0].protocol.environment == maze
    assert are_successes(rated)
    lucky = success_record("mlp", "antmaze-umaze", 2, 7, environment="MyOwn-v0")
    assert not are_successes([*rated, lucky])
    staying = success_record("mlp", "antmaze-umaze", 2, 7, conventions={"continuing_task": True})
    assert not are_successes([staying])
