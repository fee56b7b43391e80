"""Any Gymnasium environment as a batch: its own wrappers stay, the time limit goes, vectors in and out."""

from __future__ import annotations

import gymnasium as gym
import lands
import numpy as np
import pytest

from backbench.benchmarks.environments.kind import EnvironmentSpec
from backbench.benchmarks.environments.vector import VECTOR, GymBatch, make_environment
from backbench.errors import UserError


def test_gymnasiums_own_wrappers_are_removed() -> None:
    env = make_environment("Hopper-v5")
    assert env is env.unwrapped
    env = make_environment("lands:Walk-v0")
    assert isinstance(env, lands.Walk)
    env.reset(seed=0)
    assert not any(env.step(np.array([1.0], np.float32))[3] for _ in range(20))  # its limit of 7 is the caller's


@pytest.mark.parametrize("name", ["DoubledWalk", "SteepWalk"])  # by its entry point, by its registration
def test_wrappers_of_the_environment_stay(name: str) -> None:
    plain, doubled = (GymBatch(f"lands:{one}-v0", 1) for one in ("Walk", name))
    for batch in (plain, doubled):
        batch.reset([3])
    rewards = [float(batch.step([0], np.array([[0.2]], np.float32))[1][0]) for batch in (plain, doubled)]
    assert rewards[1] == 2 * rewards[0] != 0
    still = np.array([[-0.5]], np.float32)
    assert not any(doubled.step([0], still)[2][0] for _ in range(20)), "its limit of 7 is there"


def test_observations_become_vectors_and_actions_are_rescaled() -> None:
    batch = GymBatch("lands:Walk-v0", 2, {"goal": 4.0})
    states = batch.reset([0, 1])
    assert states.shape == (2, 4)
    np.testing.assert_array_equal(states[:, 0], states[:, 2])  # achieved_goal, desired_goal, observation
    assert states[:, 1].tolist() == [4.0, 4.0]
    before = states[:, 0].copy()
    states, rewards, ended = batch.step([0, 1], np.array([[-1.0], [1.0]], np.float32))
    np.testing.assert_allclose(states[:, 0] - before, [-4.0, 4.0])  # -3 and 5, where 1 stands still
    np.testing.assert_allclose(rewards, -np.abs(4.0 - states[:, 0]) / 10)
    assert ended.tolist() == [False, bool(abs(4.0 - states[1, 0]) < 0.5)]


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Pendulum-v1"])
def test_plain_vectors_are_those_of_the_general_way(env_id: str) -> None:
    """The general way flattens and filters each observation."""
    plain, general = GymBatch(env_id, 3), GymBatch(env_id, 3)
    assert plain.as_they_are
    general.as_they_are = False
    starts = [batch.reset([4, 5, 6]) for batch in (plain, general)]
    actions = np.full((2, len(plain.actions.low)), 0.3, np.float32)
    seen = [batch.step([0, 2], actions)[0] for batch in (plain, general)]
    for one, other in (starts, seen):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_an_environment_that_truncates_has_ended() -> None:
    batch = GymBatch("lands:Walk-v0", 1, {"patience": 2, "goal": 50.0})
    batch.reset([0])
    still = np.zeros((1, 1), np.float32)
    assert [bool(batch.step([0], still)[2][0]) for _ in range(2)] == [False, True]


def test_discrete_observations_become_one_hot_vectors() -> None:
    batch = GymBatch("FrozenLake-v1", 1, {"is_slippery": False})
    state = batch.reset([0])
    assert state.shape == (1, 16)
    assert state.sum() == state[0, 0] == 1.0
    state, _, _ = batch.step([0], np.array([2]))  # right
    assert state[0].argmax() == 1


@pytest.mark.parametrize(
    ("env_id", "requires", "said"),
    [
        ("Hoper-v5", "", "environment Hoper-v5 cannot be made here, with gymnasium "),
        ("no_such_land:Walk-v0", "", "needs no_such_land, which is not installed: install the package of no_such_land"),
        ("no_such_land:Walk-v0", "robotics", "pip install 'backbench[robotics]'"),
        ("CarRacing-v3", "", "CarRacing-v3"),
    ],
)
def test_an_environment_that_cannot_be_played_is_one_line(env_id: str, requires: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        VECTOR.probe(EnvironmentSpec(env_id), requires)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_without_text_names_its_place() -> None:
    class Broken(lands.Walk):
        def reset(self, **_: object) -> tuple[object, dict[str, object]]:
            raise AssertionError

    gym.register("Broken-v0", entry_point=Broken)
    with pytest.raises(UserError, match=r"Broken-v0 cannot be played .*AssertionError in reset, test_vector.py:\d+"):
        VECTOR.probe(EnvironmentSpec("Broken-v0"))
    with pytest.raises(UserError, match=r"; turn it off and on$"):
        VECTOR.probe(EnvironmentSpec("Broken-v0"), remedy="turn it off and on")


@pytest.mark.parametrize("env_id", ["Walk-v0", "DoubledWalk-v0"])
def test_a_sound_environment_passes_the_probe(env_id: str) -> None:
    VECTOR.probe(EnvironmentSpec(f"lands:{env_id}"))


def test_kitchen_names_the_versions_of_mujoco_that_it_needs() -> None:
    """Gymnasium-Robotics 1.4.2 asks mujoco 3.17 and newer for what they answer otherwise."""
    pytest.importorskip("gymnasium_robotics")
    from backbench.benchmarks.plan import suites

    task = suites.resolve("d4rl-kitchen", "kitchen-complete", "minari")
    table = suites.table("d4rl-kitchen")
    import mujoco

    if int(mujoco.__version__.split(".")[0]) < 4:
        pytest.skip(f"mujoco {mujoco.__version__} may make it: what is tested is the refusal with version 4")
    with pytest.raises(UserError, match=r"FrankaKitchen-v1 cannot be made here.*pip install 'mujoco<3.10'"):
        VECTOR.probe(EnvironmentSpec(task.env_id, task.env_kwargs), table.requires, table.remedy)
