"""Policies of robots: the expert, the medium and the ladder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gym_policies
import pytest

SCORES = [1.0, 8.0, 11.0, 19.0, 34.0, 32.0, 52.0, 101.0, 100.0, 60.0]


def test_ladder_takes_the_snapshots_nearest_to_its_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The expert has 101. Rungs are at 10.1, 20.2, 33.3 and 50.5; the medium, at 33.7, may be one of them."""

    def measure(name: str, folder: Path, steps: int, noise: float) -> dict[str, Any]:
        return {"steps": steps, "noise": noise, "score": SCORES[steps]}

    monkeypatch.setattr(gym_policies, "measure", measure)
    rows = [{"steps": n, "mode": score, "sampled": score, "score": score} for n, score in enumerate(SCORES)]
    chosen = gym_policies.GymPolicies().choose("hopper", Path("unused"), rows, {})
    steps = {name: row["steps"] for name, row in chosen.items()}
    rungs = {"replay0": 0, "replay1": 2, "replay2": 3, "replay3": 4, "replay4": 6}
    assert steps == {"expert": 7, "medium": 4, **rungs}
    assert chosen["expert"]["noise"] == gym_policies.NOISE
    assert chosen["medium"]["noise"] == 1.0
