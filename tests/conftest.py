"""What tests of the agent and of the runner share: a store of small data sets, made once a worker, and a tiny cell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: the bits of a run depend on it

BENCH = str(Path(sys.executable).with_name("bench"))
HOPPER = "backbench/hopper/medium-2000-v1"  # what preset smoke trains hopper-medium on


@pytest.fixture(scope="session", autouse=True)
def _away_from_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's data store is neither read nor written, here and in every process that a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("store")))
        patch.setenv("MUJOCO_GL", "disabled")
        patch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(scope="session")
def hopper_store(_away_from_home: None) -> Path:
    """The store, with the small hopper set in it."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.sources import embedded

    if not store.exists(HOPPER):
        embedded.make(HOPPER)
    return store.root()


@pytest.fixture
def new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of the test's own."""
    folder = tmp_path / "own-store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Ran]:
    """Runs ``bench`` in a folder of the test's own; keywords are environment variables.

    A fork of this process serves, but for variables that are read when Python or a package starts.
    """

    def run(*words: object, timeout: float = 240, **environment: str) -> Ran:
        if not any(re.match("PYTHON(?!PATH)|LANG|LC_|OMP_|BACKBENCH_NATIVE", name) for name in environment):
            return Ran(*forked.bench([*map(str, words)], tmp_path, environment, timeout))
        done = subprocess.run(
            [BENCH, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env=os.environ | environment,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def tiny_cell() -> Callable[..., Any]:
    """Builds a cell of about a second on the small hopper set; keywords are ``group__field`` or fields of the cell."""
    from backbench.benchmarks.plan import suites
    from backbench.benchmarks.plan.settings import Cell, DataConfig, EvalConfig, ModelConfig, TrainConfig

    task = replace(suites.resolve("d4rl", "hopper-medium", "embedded"), data_id=HOPPER)

    def build(backbone: str = "transformer", **changes: Any) -> Cell:
        groups: dict[str, Any] = {
            "model": ModelConfig(d_model=16, n_layers=1, context=4),
            "data": DataConfig(steps=2000),
            "train": TrainConfig(steps=30, batch_size=8, warmup=3, log_every=5, checkpoint_every=10, evaluations=2),
            "eval": EvalConfig(episodes=2, max_steps=15),
        }
        rest = {}
        for name, value in changes.items():
            group, double, field = name.partition("__")
            if double:
                groups[group] = replace(groups[group], **{field: value})
            else:
                rest[name] = value
        return Cell(backbone, **{"task": task, "preset": "smoke", **groups, **rest})

    return build


@pytest.fixture(scope="session")
def make_episodes() -> Callable[..., list[Any]]:
    """Random episodes of the given lengths; every number in them is different."""
    from backbench.benchmarks.data.trajectories import Episode

    def build(lengths: list[int], observation: int = 11, action: int = 3, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        return [
            Episode(
                observations=rng.standard_normal((n + 1, observation)),
                actions=rng.uniform(-1, 1, (n, action)).astype(np.float32),
                rewards=rng.standard_normal(n),
                terminated=i % 2 == 0,
                seed=i,
            )
            for i, n in enumerate(lengths)
        ]

    return build
