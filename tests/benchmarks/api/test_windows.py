"""``backbench.load_windows`` gives the batches that training sees."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import backbench
from backbench import UserError, Windows
from backbench.benchmarks.data.windows import WindowSampler

FIELDS = ("returns_to_go", "states", "actions", "timesteps", "mask")


def equal(one: Windows, other: Windows) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def test_batches_equal_those_of_training(hopper_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Windows] = []
    batch = WindowSampler.batch

    def keep(self: Any, step: int) -> Windows:
        trained.append(batch(self, step))
        return trained[-1]

    overrides = {"train.steps": 4, "data.episodes": 3, "eval.episodes": 1, "eval.max_steps": 5}
    with monkeypatch.context() as patch:
        patch.setattr(WindowSampler, "batch", keep)
        record = backbench.run_cell(
            backbench.cell("mlp", "hopper-medium", preset="smoke", seed=5, overrides=overrides), tmp_path
        )
    assert record.status == "done", record.failure
    windows = backbench.load_windows("hopper-medium", preset="smoke", seed=5, overrides=overrides)
    again = list(islice(windows, 4))
    assert len(trained) == 4
    assert all(map(equal, again, trained))
    other = next(backbench.load_windows("hopper-medium", preset="smoke", seed=6, overrides=overrides))
    assert not equal(other, trained[0])


def test_sizes_are_those_asked_for(hopper_store: Path) -> None:
    windows = backbench.load_windows("hopper-medium", preset="smoke", context=20, batch_size=6)
    found = {name: tuple(getattr(next(windows), name).shape) for name in FIELDS}
    one = (6, 20)
    assert found == dict(returns_to_go=one, states=(*one, 11), actions=(*one, 3), timesteps=one, mask=one)


def test_a_mistake_is_one_line_before_the_first_batch(hopper_store: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'hoper'"):
        backbench.load_windows("hoper")
    with pytest.raises(UserError, match=r"model\.context=0: give at least 1"):
        backbench.load_windows("hopper-medium", preset="smoke", context=0)
    with pytest.raises(UserError, match=r"data\.episodes=9,999 needs"):
        backbench.load_windows("hopper-medium", preset="smoke", overrides={"data.episodes": 9999})
