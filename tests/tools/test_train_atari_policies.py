"""Packing: the ladder is chosen by what was measured, and a pack's other parts stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import train_atari_policies as trainer
from ram_policies import made_up

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.ram import RamPolicy, load
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES

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


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a snapshot's measured return be what its log says, without play."""
    known = {made_up(4, number)["b2"].tobytes(): mean or 1.0 for number, mean in enumerate(RETURNS)}

    def measure(game: str, policy: RamPolicy, temperature: float, epsilon: float, *_: object) -> dict[str, float]:
        mean = 1.0 if epsilon == 1 else known[policy.arrays["b2"].astype(np.float16).tobytes()]
        return {"temperature": temperature, "epsilon": epsilon, "return_mean": mean}

    monkeypatch.setattr(trainer, "measure", measure)


def test_the_ladder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rungs at 1 + 99 x (0.1, 0.25, 0.5, 0.75) = 10.9, 25.75, 50.5, 75.25."""
    pretend(monkeypatch)
    chosen = trainer.choose("breakout", trained / "breakout", 1)
    steps = {name: row["steps"] for name, row in chosen.items()}
    assert steps == {"replay0": 0, "replay1": 3, "replay2": 5, "replay3": 6, "replay4": 8, "expert": 10}
    assert len(chosen["expert"]["plays"]) == 2


def test_pack(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    target = tmp_path / "pack"
    target.mkdir()
    (target / "manifest.json").write_text(json.dumps({"hopper": {"kept": [1, 2]}, "breakout": {"old": 1}}))
    trainer.pack(["breakout"], trained, target)
    content = json.loads((target / "manifest.json").read_text())
    assert content.keys() == {"hopper", "breakout"}
    assert content["hopper"] == {"kept": [1, 2]}
    card = content["breakout"]
    assert card["env_id"] == "ALE/Breakout-v5"
    assert (card["algorithm"], card["noop_unit"], card["steps"]) == ("PPO", 1, 2_500_000)
    assert card["versions"]["ale-py"]
    assert sorted(p.name for p in target.iterdir()) == ["breakout.npz", "manifest.json"]
    expert = load("breakout", "expert", target)
    assert np.array_equal(expert.arrays["w1"], made_up(4, 10)["w1"].astype(np.float32))

    (trained / "breakout" / "recipe.json").write_text(json.dumps({"algorithm": "other", "noop_unit": 4}))
    (trained / "breakout").rename(trained / "second")
    trainer.pack(["breakout=second"], trained, target)
    assert json.loads((target / "manifest.json").read_text())["breakout"]["algorithm"] == "other"


def test_what_cannot_be_packed(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown game 'brekout'; did you mean 'breakout'"):
        trainer.pack(["brekout"], trained, tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*log.jsonl .*train first"):
        trainer.pack(["pong"], trained, tmp_path)
    log = trained / "breakout" / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(DataError, match="4 snapshots with returns; train longer"):
        trainer.pack(["breakout"], trained, tmp_path)
    assert not list(tmp_path.glob("*.npz"))


def test_measure() -> None:
    """Whole episodes under the protocol: the same numbers as playing them by hand."""
    policy = RamPolicy.from_arrays(made_up(4))
    measured = trainer.measure("breakout", policy, 1.0, 0.5, 4, 2, 5)
    emulator, rng = Emulator("breakout", pixels=False), np.random.default_rng(5)
    returns, steps = [], 0
    for _ in range(2):
        emulator.reset(4 * int(rng.integers(1, 8)))
        rewards, over = [], False
        while not over:
            reward, over = emulator.step(int(policy.act(emulator.ram()[None], [rng], 1.0, 0.5)[0]))
            rewards.append(reward)
        returns.append(sum(rewards))
        steps += len(rewards)
    assert measured == {
        "temperature": 1.0,
        "epsilon": 0.5,
        "episodes": 2,
        "return_mean": round(np.mean(returns), 1),
        "return_std": round(np.std(returns), 1),
        "return_min": min(returns),
        "return_max": max(returns),
        "length_mean": round(steps / 2),
    }


def test_every_game_has_a_recipe() -> None:
    assert set(trainer.RECIPES) == set(GAMES)
    assert {recipe["noop_unit"] for recipe in trainer.RECIPES.values()} == {1, 4}


def test_a_training_run_packs(tmp_path: Path) -> None:
    """The trainer's files are what packing reads; needs the trainer's own packages."""
    pytest.importorskip("sbx")
    recipe = trainer.RECIPES["breakout"] | {"steps": 4096, "every": 1024, "envs": 2}
    trainer.train("breakout", tmp_path, recipe)
    rows = [json.loads(line) for line in (tmp_path / "breakout" / "log.jsonl").read_text().splitlines()]
    for row in rows:
        with np.load(tmp_path / "breakout" / f"{row['steps']:08d}.npz", allow_pickle=False) as arrays:
            assert RamPolicy.from_arrays(dict(arrays)).n_actions == 4
    assert len(rows) == 4
