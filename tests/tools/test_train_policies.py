"""Packing writes the chosen snapshots, and leaves the other parts of a pack as they are."""

from __future__ import annotations

import json
from pathlib import Path

import atari_policies
import numpy as np
import pytest
import train_policies
from ram_policies import made_up

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.ram import RamPolicy, load


def test_pack_writes_its_own_part_of_the_manifest(trained: Path, tmp_path: Path, logged_returns: None) -> None:
    target = tmp_path / "pack"
    target.mkdir()
    (target / "manifest.json").write_text(json.dumps({"hopper": {"kept": [1, 2]}, "breakout": {"old": 1}}))
    train_policies.pack(["breakout"], trained, target)
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
    train_policies.pack(["breakout=second"], trained, target)
    assert json.loads((target / "manifest.json").read_text())["breakout"]["algorithm"] == "other"


def test_an_unknown_or_untrained_environment_is_not_packed(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown environment 'brekout'; did you mean 'breakout'"):
        train_policies.pack(["brekout"], trained, tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*log.jsonl .*train first"):
        train_policies.pack(["pong"], trained, tmp_path)
    log = trained / "breakout" / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(DataError, match="4 snapshots with returns; train longer"):
        train_policies.pack(["breakout"], trained, tmp_path)
    assert not list(tmp_path.glob("*.npz"))


def test_a_training_run_writes_the_files_that_packing_reads(tmp_path: Path) -> None:
    """Needs the trainer's own packages."""
    pytest.importorskip("sbx")
    recipe = atari_policies.RECIPES["breakout"] | {"steps": 4096, "every": 1024, "envs": 2}
    train_policies.train("breakout", tmp_path, recipe)
    rows = [json.loads(line) for line in (tmp_path / "breakout" / "log.jsonl").read_text().splitlines()]
    for row in rows:
        with np.load(tmp_path / "breakout" / f"{row['steps']:08d}.npz", allow_pickle=False) as arrays:
            assert RamPolicy.from_arrays(dict(arrays)).n_actions == 4
    assert len(rows) == 4
