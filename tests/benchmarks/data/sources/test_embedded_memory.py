"""Data of the memory tasks: what the oracle plays, in the suites' sizes."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import embedded, embedded_memory
from backbench.benchmarks.environments import memory
from backbench.benchmarks.environments.memory.script import MemoryTask
from backbench.benchmarks.plan import suites


def env_of(task: str) -> MemoryTask:
    memory.register()
    env_id, kwargs = memory.named(task)
    env = gymnasium.make(env_id, **kwargs).unwrapped
    assert isinstance(env, MemoryTask)
    return env


@pytest.mark.parametrize(("suite", "tasks", "twin"), [
    ("memory", embedded_memory.TASKS, ""), ("memory-seen", embedded_memory.TASKS, "-seen"),
    ("memory-long", (embedded_memory.LONG,), ""),
])  # fmt: skip
def test_the_suite_s_table_agrees_with_the_data_and_the_environments(
    suite: str, tasks: tuple[str, ...], twin: str
) -> None:
    table = suites.table(suite)
    for (name, row), task in zip(table.tasks.items(), tasks, strict=True):
        assert task.startswith(name.replace("long", "1000"))
        source = row.sources["embedded"]
        assert source.data_id == f"backbench/memory/{task}{twin}-v1"
        assert (source.env_id, source.env_kwargs) == memory.named(f"{task}{twin}")
        env = env_of(f"{task}{twin}")
        assert row.max_steps == env.steps
        assert f"model.context={env.steps}" in row.settings
        assert row.reference == (1 / env.answers, 1.0)


def test_a_third_of_the_episodes_has_each_share_of_noise() -> None:
    env = env_of("repeat-4")
    wrong = []
    for number in range(300):
        episode = embedded_memory.play(env, number)
        assert episode.terminated
        assert len(episode.rewards) == env.steps
        assert not episode.observations[-1].any()
        env.reset(seed=episode.seed)
        oracle = []
        for action in episode.actions:
            oracle.append(env.oracle)
            env.step(action)
        wrong.append(np.mean(episode.actions != oracle))
    shares = [float(np.mean(wrong[kind::3])) for kind in range(3)]
    # A random action is right one time in five.
    assert shares == pytest.approx([0.0, 0.3 * 0.8, 0.7 * 0.8], abs=0.02)


def test_episodes_depend_on_their_number_alone() -> None:
    env = env_of("copy-12")
    first = [embedded_memory.play(env, number) for number in range(4)]
    for number in (3, 1):
        again = embedded_memory.play(env, number)
        for part in ("observations", "actions", "rewards"):
            assert np.array_equal(getattr(again, part), getattr(first[number], part))
    assert len({episode.observations.tobytes() for episode in first}) == 4


def test_a_set_is_stored_with_the_spaces_of_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(embedded_memory, "EPISODES", 6)
    name = "backbench/memory/recall-8-seen-v1"
    said = embedded.SOURCE.make(name)
    assert "everywhere else it is" in said, "six episodes are another set"
    data = store.read(name)
    assert (len(data.lengths), data.state_shape, data.n_actions) == (6, (16,), 5)
    assert data.lengths.tolist() == [16] * 6
    assert data.returns[0] == pytest.approx(1.0)
    observations, actions = store.recorded_spaces(name)
    assert (observations, actions) == (env_of("recall-8-seen").observation_space, gymnasium.spaces.Discrete(5))


def test_a_complete_set_has_the_hash_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert embedded.SOURCE.make("backbench/memory/recall-8-v1") == ""
    assert set(embedded_memory.ids()) <= set(embedded.known())


@pytest.mark.parametrize("name", ["tmaze-25-v1", "tmaze-24-v0", "tmaze-24-seen", "maze-24-v1", "tmaze-24--seen-v1"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot be made"):
        embedded.SOURCE.check(f"backbench/memory/{name}")
