"""A suite of a user's own from a YAML file and Minari data sets: environments that are none of ours, start to board."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import lands
import numpy as np
import pytest
import yaml
from paths import HELPERS
from planning import cells as planned

from backbench.agents.heads import CategoricalHead
from backbench.benchmarks.data import store
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.replay import load
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.runner import Voice, prepare
from backbench.errors import UserError
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.files import load_record

HERE = str(HELPERS)


def gather(env: gym.Env[Any, Any], episodes: int, steps: int, seed: int = 0) -> Iterator[Any]:
    """Minari's buffers of random play."""
    from minari.data_collector import EpisodeBuffer

    env.action_space.seed(seed)
    for number in range(episodes):
        seen = [env.reset(seed=number)[0]]
        actions, rewards, ends = [], [], []
        for _ in range(steps):
            actions.append(env.action_space.sample())
            state, reward, terminated, truncated, _ = env.step(actions[-1])
            seen.append(state)
            rewards.append(float(reward))
            ends.append((terminated, truncated))
            if terminated or truncated:
                break
        ends[-1] = (ends[-1][0], not ends[-1][0])
        observations: Any = (
            {key: np.stack([one[key] for one in seen]) for key in seen[0]} if isinstance(seen[0], dict) else seen
        )
        terminations, truncations = zip(*ends, strict=True)
        yield EpisodeBuffer(
            id=number, observations=observations, actions=actions, rewards=rewards,
            terminations=list(terminations), truncations=list(truncations),
        )  # fmt: skip


def minari_set(name: str, env: gym.Env[Any, Any], **how: Any) -> None:
    """A data set in the store as a user's own program leaves it: no word of Backbench beside it."""
    import minari

    store.root().mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name, list(gather(env, **how)), observation_space=env.observation_space, action_space=env.action_space
        )


def suite_file(folder: Path, **tasks: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "walks.yaml"
    content = {"source": "local", "max_steps": 12, "return_scale": 10, "normaliser": "declared", "tasks": tasks}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def row(env_id: str, data_id: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"reference": [low, high], "sources": {"local": {"env_id": env_id, "data_id": data_id, **more}}}


def test_from_a_file_to_a_board(new_store: Path, tmp_path: Path, bench: Callable[..., Any]) -> None:
    minari_set("me/walk/random-v0", lands.Walk(goal=4.0), episodes=30, steps=12)
    minari_set("me/pendulum/random-v0", gym.make("Pendulum-v1"), episodes=10, steps=30)
    suite_file(
        tmp_path / "suites",
        walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0, env_kwargs={"goal": 4.0}, targets=[-5, -10]),
        pendulum=row("Pendulum-v1", "me/pendulum/random-v0", -1200, -150),
    )
    words = ("run", "--backbone", "mlp", "--preset", "smoke", "--track", "none")
    environment = {"PYTHONPATH": HERE}
    ran = bench(*words, "suite=walks", **environment)
    assert ran.code == 0, ran.err + ran.out
    assert "1. walks, data local, preset smoke, acting window" in ran.out
    assert "Returns that score 0 and 100: -20 and 0 (walk), -1200 and -150 (pendulum)." in " ".join(ran.out.split())
    assert "suite 'walks' is not known" not in ran.out
    mean = next(line for line in ran.out.splitlines() if line.startswith("mean"))
    assert len(mean.split()) == 3  # the data's mean, and the backbone's

    records = [load_record(path) for path in sorted((tmp_path / "results" / "records").glob("*.json"))]
    assert len(records) == 2
    walk = next(r for r in records if r.identity.task == "walk")
    assert walk.identity.suite_tasks == ("walk", "pendulum")
    assert (walk.identity.source, walk.identity.environment) == ("local", "lands:Walk-v0")
    assert walk.protocol.environment == {"goal": 4.0}
    assert (walk.protocol.targets, walk.protocol.reference) == ((-5.0, -10.0), (-20.0, 0.0))
    assert walk.identity.data is not None
    assert walk.identity.data.sha256 == store.read("me/walk/random-v0").digest
    assert walk.headline is not None
    assert walk.headline.normalised_mean == pytest.approx(5 * (walk.headline.raw_mean + 20))
    pendulum = next(r for r in records if r.identity.task == "pendulum")
    assert len(pendulum.protocol.targets) == 2  # by the rule
    assert pendulum.protocol.targets[0] > pendulum.protocol.targets[1]

    # By its path it is the same suite: nothing is left to do.
    again = bench(*words, "--suite", "suites/walks.yaml", **environment)
    assert (again.code, "cells to run" in again.out) == (0, False)
    # The record alone says which cell it was, targets by the rule included.
    assert cell_of(pendulum.provenance.config).key == pendulum.key
    watched = bench("watch", walk.key, "--trust", **environment)
    assert watched.code == 2
    shows = "bench watch shows Atari games and Gymnasium's own MuJoCo robots only"
    assert f"environment lands:Walk-v0: {shows}" in watched.err
    shown = bench("data", "show", "walk", "--data", "local", **environment)
    assert shown.code == 0, shown.err
    assert "me/walk/random-v0" in shown.out
    assert "states (4,), actions (1,) in [-" in shown.out


def test_other_data_under_the_same_id_are_not_what_was_run(
    new_store: Path, tmp_path: Path, bench: Callable[..., Any]
) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6)
    path = suite_file(tmp_path, walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0))
    words = ("run", "--backbone", "mlp", "--suite", path, "--preset", "smoke", "--track", "none")
    ran = bench(*words, PYTHONPATH=HERE)
    assert ran.code == 0
    (said,) = [line for line in ran.err.splitlines() if "not vary" in line]  # the goal is always the same
    assert said.startswith("data set me/walk/random-v0: state column 1 does not vary, so the scale is 1")
    store.remove("me/walk/random-v0")
    board = bench(*words, PYTHONPATH=HERE)  # nothing is left to do, and nothing is needed for that
    assert (board.code, "1. walks, data local" in board.out) == (0, True)
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6, seed=1)
    store.read("me/walk/random-v0")
    again = bench(*words, PYTHONPATH=HERE)
    assert again.code == 2
    assert "was run on other data: me/walk/random-v0 had the hash" in again.err
    assert len(again.err.splitlines()) == 1


def test_another_scale_of_returns_is_another_table(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6)
    records = []
    for scale in (10, 1):
        path = suite_file(tmp_path, walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0, return_scale=scale))
        (cell,) = planned(["mlp"], str(path), "smoke", [0])
        records.append(run_cell(cell, tmp_path / "results"))
    board = build_board(records)
    assert len(board.sections) == 2
    assert any("return_scale of walk" in reason for reason in board.sections[1].apart)


def test_other_bounds_than_the_data_s_are_refused(new_store: Path, tmp_path: Path) -> None:
    env = lands.Walk()
    env.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    minari_set("me/walk/random-v0", env, episodes=5, steps=6)
    path = suite_file(tmp_path, walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0))
    (cell,) = planned(["mlp"], str(path), "smoke", [0])
    with pytest.raises(UserError, match=r"was recorded with actions Box\(-1.0, 1.0, .*RescaleAction"):
        run_cell(cell, tmp_path / "results")


def test_a_users_suite_filters_observations(new_store: Path, tmp_path: Path) -> None:
    """Walk's vector has the position twice, and the goal; its speed is hidden."""
    minari_set("me/walk/random-v0", lands.Walk(), episodes=20, steps=8)
    walk = {**row("lands:Walk-v0", "me/walk/random-v0", -20, 0), "observe": {"keep": [1, 0], "missing": 0.25}}
    (cell,) = planned(["mlp"], str(suite_file(tmp_path, walk=walk)), "smoke", [0])
    record = run_cell(cell, tmp_path / "results")
    assert record.status == "done", record.failure
    assert record.protocol.environment == {"observe": {"keep": [1, 0], "missing": 0.25}}
    weights = cell.checkpoint_folder(tmp_path / "results") / "last.safetensors"
    encoder: Any = load.load_agent(cell, weights, load.head_of(record)).tokenizer.encoder
    assert encoder.mean.shape == (3,)


def test_an_index_outside_the_observation_is_said_before_anything_is_written(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=2, steps=6)
    walk = {**row("lands:Walk-v0", "me/walk/random-v0", -20, 0), "observe": {"keep": [0, 4]}}
    path, results = str(suite_file(tmp_path, walk=walk)), tmp_path / "results"
    (cell,) = planned(["mlp"], path, "smoke", [0])
    quiet = Voice(print, lambda names: print, lambda name: nullcontext(lambda done, size: None))
    runs: list[Callable[[], Any]] = [lambda: prepare([cell], results, quiet, path), lambda: run_cell(cell, results)]
    for run in runs:
        with pytest.raises(UserError) as caught:
            run()
        said = "suite walks: task walk: observe.keep has 4, and an observation has 4 numbers: give 0 to 3"
        assert str(caught.value) == said
    assert not results.exists()


def test_numbered_actions_of_vectors(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/cart-pole/random-v0", gym.make("CartPole-v1"), episodes=20, steps=30)
    path = suite_file(tmp_path, pole=row("CartPole-v1", "me/cart-pole/random-v0", 0, 500))
    (cell,) = planned(["mlp"], str(path), "smoke", [0], overrides=["eval.temperature=0.5"])
    record = run_cell(cell, tmp_path / "results")
    assert record.status == "done", record.failure
    assert record.protocol.sampling == "sampled at T=0.5"
    assert record.headline is not None
    assert record.headline.returns == tuple(float(n) for n in record.headline.lengths)
    weights = cell.checkpoint_folder(tmp_path / "results") / "last.safetensors"
    agent = load.load_agent(cell, weights, load.head_of(record))
    assert isinstance(agent.head, CategoricalHead)
    assert agent.head.project.out_features == 2


def test_temperature_without_numbers_is_refused(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6)
    path = suite_file(tmp_path, walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0))
    (cell,) = planned(["mlp"], str(path), "smoke", [0], overrides=["eval.temperature=0.5"])
    with pytest.raises(UserError, match="only discrete actions are sampled"):
        run_cell(cell, tmp_path / "results")


def test_data_of_another_environment_are_refused(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6)
    path = suite_file(tmp_path, walk=row("Pendulum-v1", "me/walk/random-v0", -20, 0))
    (cell,) = planned(["mlp"], str(path), "smoke", [0])
    with pytest.raises(UserError, match=r"has states \(4,\) and 1 actions, environment Pendulum-v1 has states 3 and 1"):
        run_cell(cell, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("source", "env_id", "said"),
    [
        ("local", "Pendulum-v1", "'me/nothing-v0' is not in the store"),
        ("local", "Pendulun-v1", "environment Pendulun-v1 cannot be made here"),
        ("local", "ghost_land:Walk-v0", "needs ghost_land, which is not installed"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(
    new_store: Path, tmp_path: Path, bench: Callable[..., Any], source: str, env_id: str, said: str
) -> None:
    data_id = "me/nothing-v0" if env_id == "Pendulum-v1" else "me/walk/random-v0"
    minari_set("me/walk/random-v0", lands.Walk(), episodes=2, steps=6)
    path = suite_file(tmp_path, walk=row(env_id, data_id, -20, 0))
    ran = bench("run", "--backbone", "mlp", "--suite", path, "--preset", "smoke")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_records_hold_no_path_of_the_file(new_store: Path, tmp_path: Path) -> None:
    minari_set("me/walk/random-v0", lands.Walk(), episodes=5, steps=6)
    path = suite_file(tmp_path, walk=row("lands:Walk-v0", "me/walk/random-v0", -20, 0))
    (cell,) = planned(["mlp"], str(path), "smoke", [0])
    record = run_cell(cell, tmp_path / "results", command=["bench", "run", "--suite", str(path)])
    assert os.sep + "tmp" not in json.dumps(record.model_dump(mode="json"))
