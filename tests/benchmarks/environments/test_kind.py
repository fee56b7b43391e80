"""Each kind of environment says by itself all that the other rooms need to know of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import backbench
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.kind import EnvironmentKind, EnvironmentSpec, Sizes
from backbench.benchmarks.environments.registry import KINDS, kind_of
from backbench.errors import UserError

HOPPER = EnvironmentSpec("Hopper-v5")
BREAKOUT = EnvironmentSpec("ALE/Breakout-v5", protocol=AtariProtocol())
VECTOR, ATARI = kind_of(pixels=False), kind_of(pixels=True)
FULL = EnvironmentSpec("ALE/Breakout-v5", protocol=AtariProtocol(full_actions=True))
BOTH = [(VECTOR, HOPPER), (ATARI, BREAKOUT)]


def test_a_task_with_pixels_is_of_the_kind_atari() -> None:
    assert KINDS.all() == {"vector": VECTOR, "atari": ATARI}


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        (VECTOR, HOPPER, Sizes((11,), None, 3)),
        (VECTOR, EnvironmentSpec("FrozenLake-v1", {"is_slippery": False}), Sizes((16,), 4, 0)),
        (ATARI, BREAKOUT, Sizes((4, 84, 84), 4, 0)),
        (ATARI, FULL, Sizes((4, 84, 84), 18, 0)),
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_environment(kind: EnvironmentKind, spec: EnvironmentSpec, expected: Sizes) -> None:
    kind.probe(spec)
    assert kind.sizes(spec) == expected
    batch = kind.make(spec, 2)
    assert batch.reset([1, 2]).shape == (2, *expected.state_shape)
    batch.close()
    kind.check_data(spec, "same", expected, None)


def test_a_blank_state_has_the_type_that_agents_see() -> None:
    for kind, shape, dtype in ((VECTOR, (11,), np.float32), (ATARI, (4, 84, 84), np.uint8)):
        state = kind.blank_state(shape)
        assert (state.shape, state.dtype) == ((1, *shape), dtype)


@pytest.mark.parametrize(
    ("kind", "spec", "data", "said"),
    [
        (VECTOR, HOPPER, Sizes((11,), None, 2), "(11,) and 2 actions, environment Hopper-v5 has states 11 and 3"),
        (VECTOR, HOPPER, Sizes((11,), 3, 0), "has states (11,) and 3 discrete actions"),
        (VECTOR, HOPPER, Sizes((4, 84, 84), 4, 0), "has states (4, 84, 84)"),
        (ATARI, BREAKOUT, Sizes((11,), 4, 0), "has states (11,) and ALE/Breakout-v5 has (4, 84, 84)"),
        (ATARI, BREAKOUT, Sizes((4, 84, 84), 18, 0), "has 18 actions and ALE/Breakout-v5 has 4 with atari.full"),
        (ATARI, BREAKOUT, Sizes((4, 84, 84), None, 2), "has None actions"),
    ],
)  # fmt: skip
def test_data_of_other_sizes_are_refused(kind: EnvironmentKind, spec: EnvironmentSpec, data: Sizes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        kind.check_data(spec, "x", data, None)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_recorded_with_other_spaces_are_refused() -> None:
    env = gym.make("Hopper-v5")
    same = (env.observation_space, env.action_space)
    VECTOR.check_data(HOPPER, "x", Sizes((11,), None, 3), lambda: same)
    parts = {"a": gym.spaces.Box(-1, 1, (5,)), "b": gym.spaces.Box(-1, 1, (6,))}
    for observations, actions, said in (
        (gym.spaces.Dict(parts), same[1], "has observations a 5 + b 6, environment Hopper-v5 has 11"),
        (same[0], gym.spaces.Box(-2, 2, (3,)), "RescaleAction"),
    ):
        with pytest.raises(UserError) as caught:
            VECTOR.check_data(HOPPER, "x", Sizes((11,), None, 3), lambda pair=(observations, actions): pair)
        assert said in str(caught.value)


def test_the_longest_episode_is_the_tasks_or_the_protocols() -> None:
    assert [VECTOR.max_steps(HOPPER, 1000, asked) for asked in (0, 7, 2000)] == [1000, 7, 2000]
    assert [ATARI.max_steps(BREAKOUT, 1000, asked) for asked in (0, 7, 99_999)] == [27_000, 7, 27_000]


def test_the_record_has_the_keyword_arguments_or_the_protocol() -> None:
    assert VECTOR.conventions(EnvironmentSpec("Walk-v0", {"goal": 4.0})) == {"goal": 4.0}
    assert ATARI.conventions(BREAKOUT)["sticky"] == 0.0
    assert VECTOR.protocol(AtariProtocol()) is None
    assert ATARI.protocol(AtariProtocol()) == AtariProtocol()


@pytest.mark.parametrize(("kind", "spec"), BOTH)
def test_a_camera_sees_each_step(kind: EnvironmentKind, spec: EnvironmentSpec) -> None:
    batch = kind.make(spec, 1)
    camera = kind.camera(spec, batch)
    first = camera.view(batch.reset([3]))
    kept = first.copy()
    action: Any = np.array([1]) if kind is ATARI else np.ones((1, 3), np.float32)
    second = camera.view(batch.step([0], action)[0])
    batch.close()
    assert np.array_equal(first, kept), "a view must not change with the environment"
    assert first.shape == second.shape == ((84, 84) if kind is ATARI else (6,))
    assert not np.array_equal(first, second)
    assert 0.001 < camera.seconds < 0.1
    assert kind.action_names(spec) == (("NOOP", "FIRE", "RIGHT", "LEFT") if kind is ATARI else ())


def test_an_atari_environment_needs_a_protocol() -> None:
    with pytest.raises(UserError, match="needs a protocol; give the cell atari=AtariProtocol"):
        ATARI.make(EnvironmentSpec("ALE/Breakout-v5"), 1)


def test_what_a_users_atari_suite_cannot_have() -> None:
    assert ATARI.suite_problem("ALE/Pong-v5", {}, limited=False) == ""
    assert ATARI.suite_problem("CarRacing-v3", {}, limited=False).startswith("env_id: CarRacing-v3 is not an Atari")
    assert "takes no frameskip" in ATARI.suite_problem("ALE/Pong-v5", {"frameskip": 5}, limited=False)
    assert "max_steps: unused by Atari" in ATARI.suite_problem("ALE/Pong-v5", {}, limited=True)
    assert VECTOR.suite_problem("CarRacing-v3", {"x": 1}, limited=True) == ""


def test_no_other_room_asks_for_pixels() -> None:
    """Elsewhere a task's kind answers. ``pixels`` is only passed on: from the suite's file to the task, to its kind."""
    asks = re.compile(r"(if|not|and|or|is|assert) [\w.]*\.(pixels|atari)\b|\.atari is|\"ALE/|'ALE/")
    root = Path(backbench.__file__).parent / "benchmarks"
    rooms = [path for path in root.rglob("*.py") if "environments" not in path.relative_to(root).parts]
    assert len(rooms) > 40
    assert [str(path) for path in rooms if asks.search(path.read_text(encoding="utf-8"))] == []
