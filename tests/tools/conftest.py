"""A folder of Atari training runs as the trainer writes them, with made-up returns."""

from __future__ import annotations

import json
from pathlib import Path

import atari_policies
import numpy as np
import pytest
from ram_policies import made_up

from backbench.benchmarks.data.policies.ram import RamPolicy

RETURNS = [None, 1.0, 8.0, 11.0, 24.0, 27.0, 49.0, 52.0, 77.0, 73.0, 100.0, 96.0]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder of runs as the trainer writes them, one game, twelve snapshots."""
    folder = tmp_path / "runs" / "breakout"
    folder.mkdir(parents=True)
    for number, mean in enumerate(RETURNS):
        np.savez(folder / f"{number:08d}.npz", **made_up(4, number))
        with (folder / "log.jsonl").open("a") as log:
            log.write(json.dumps({"steps": number, "ret": mean, "length": 1}) + "\n")
    return folder.parent


@pytest.fixture
def logged_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a snapshot's measured return be what its log says, without play."""
    known = {made_up(4, number)["b2"].tobytes(): mean or 1.0 for number, mean in enumerate(RETURNS)}

    def measure(game: str, policy: RamPolicy, noise: tuple[float, float], *_: object) -> dict[str, float]:
        temperature, epsilon = noise
        mean = 1.0 if epsilon == 1 else known[policy.arrays["b2"].astype(np.float16).tobytes()]
        return {"temperature": temperature, "epsilon": epsilon, "return_mean": mean}

    monkeypatch.setattr(atari_policies, "measure", measure)
