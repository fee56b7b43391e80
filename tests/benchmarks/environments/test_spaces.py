"""Observations as vectors and actions on the agent's scale, against Gymnasium's own flattening and rescaling."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.benchmarks.environments import spaces
from backbench.errors import UserError

GOAL = gs.Dict(
    {
        "observation": gs.Box(-np.inf, np.inf, (5,)),
        "achieved_goal": gs.Box(-9, 9, (2,), np.float64),
        "desired_goal": gs.Box(-9, 9, (2,), np.float64),
    }
)
NESTED = gs.Dict(
    {
        "b": gs.Tuple((gs.Discrete(3, start=1), gs.MultiDiscrete([2, 3]))),
        "a": gs.Box(-1, 1, (2, 3)),
        "c": gs.MultiBinary(4),
    }
)


def stacked(space: Any, samples: list[Any]) -> Any:
    """n observations as Minari hands them over: arrays of the leaves."""
    if isinstance(space, gs.Dict):
        return {key: stacked(inner, [one[key] for one in samples]) for key, inner in space.spaces.items()}
    if isinstance(space, gs.Tuple):
        return tuple(stacked(inner, [one[i] for one in samples]) for i, inner in enumerate(space.spaces))
    return np.array(samples)


@pytest.mark.parametrize("space", [GOAL, NESTED, gs.Discrete(4), gs.Box(-1, 1, ()), gs.MultiBinary(3)])
def test_vectors_equal_those_of_gymnasium(space: Any) -> None:
    space.seed(0)
    samples = [space.sample() for _ in range(7)]
    expected = np.array([gs.flatten(space, one) for one in samples])
    found = spaces.flatten(space, stacked(space, samples))
    np.testing.assert_array_equal(found, expected.reshape(7, -1))
    assert spaces.size(space) == expected.reshape(7, -1).shape[1]
    for one, row in zip(samples, found, strict=True):
        np.testing.assert_array_equal(spaces.flatten(space, one, one=True), row)


def test_keys_are_in_alphabetical_order_whatever_the_space_says() -> None:
    from collections import OrderedDict

    space = gs.Dict(OrderedDict((key, gs.Box(-9, 9, (1,))) for key in ("z", "m", "a")))
    assert spaces.flatten(space, {"z": [1.0], "m": [2.0], "a": [3.0]}, one=True).tolist() == [3.0, 2.0, 1.0]
    assert spaces.describe(GOAL) == "achieved_goal 2 + desired_goal 2 + observation 5"
    assert spaces.describe(gs.Box(-1, 1, (17,))) == "17"


@pytest.mark.parametrize(
    ("space", "value"),
    [(gs.Discrete(4, start=3), 1), (gs.Discrete(4, start=3), 7), (gs.MultiDiscrete([2, 3]), [1, 3]),
     (gs.MultiDiscrete([2, 3]), [-1, 0])],
)  # fmt: skip
def test_discrete_observations_outside_their_space_are_refused(space: Any, value: Any) -> None:
    with pytest.raises(UserError, match="observations outside"):
        spaces.flatten(space, np.array([value]))


def test_a_plain_vector_is_returned_unchanged() -> None:
    for dtype in (np.float32, np.float64):
        states = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype)
        assert spaces.flatten(gs.Box(-9, 9, (3,), dtype), states) is states


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (gs.Box(0, 255, (84, 84), np.uint8), "x has observations of pixels (84, 84); vectors only"),
        (gs.Dict({"camera": gs.Box(0, 255, (8, 8, 3), np.uint8)}), "x has observations 'camera' of pixels"),
        (gs.Text(5), "x has observations of Text, which are not vectors"),
        (gs.Sequence(gs.Discrete(2)), "x has observations of Sequence"),
    ],
)
def test_pictures_and_text_are_refused(space: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        spaces.check_observations(space, "x")
    assert str(caught.value).startswith(said)


def test_actions_within_unit_bounds_keep_their_bits() -> None:
    actions = spaces.Actions.of(gs.Box(-1, 1, (3,)), "x")
    given_ = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    assert actions.to_agent(given_).tobytes() == given_.tobytes()
    assert actions.to_environment(given_[0]) is not None
    assert actions.to_environment(given_[0]).tobytes() == given_[0].tobytes()


BOUNDS = st.tuples(st.floats(-100, 100), st.floats(0.01, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(BOUNDS, min_size=1, max_size=4), st.integers(0, 1000))
def test_rescaled_actions_come_back_within_the_bounds(bounds: list[tuple[float, float]], seed: int) -> None:
    low, high = (np.array(side, dtype=np.float64) for side in zip(*bounds, strict=True))
    box = gs.Box(low, high, dtype=np.float64)
    actions = spaces.Actions.of(box, "x")
    rng = np.random.default_rng(seed)
    theirs = rng.uniform(low, high, (6, len(bounds)))
    ours = actions.to_agent(theirs)
    assert ours.dtype == np.float32
    assert (np.abs(ours) <= 1 + 1e-6).all()
    for one, expected in zip(ours, theirs, strict=True):
        back = actions.to_environment(one)
        np.testing.assert_allclose(back, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))
        assert box.contains(back)
    np.testing.assert_allclose(actions.to_environment(np.ones(len(bounds), np.float32)), high, atol=1e-9)
    np.testing.assert_allclose(actions.to_environment(-np.ones(len(bounds), np.float32)), low, atol=1e-9)


def test_actions_are_rescaled_as_by_gymnasium() -> None:
    inner = gym.make("Pendulum-v1")
    rescaled = gym.wrappers.RescaleAction(inner, -1.0, 1.0)
    actions = spaces.Actions.of(inner.action_space, "x")
    for value in (-1.0, -0.3, 0.0, 0.77, 1.0):
        one = np.array([value], dtype=np.float32)
        np.testing.assert_allclose(actions.to_environment(one), rescaled.action(one), rtol=1e-6)
        assert inner.action_space.contains(actions.to_environment(one))


def test_discrete_actions_start_at_zero() -> None:
    actions = spaces.Actions.of(gs.Discrete(4, start=2), "x")
    assert actions.n == 4
    assert actions.to_agent(np.array([2, 5, 3])).tolist() == [0, 3, 1]
    assert actions.to_environment(np.int64(3)) == 5


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (gs.Box(-np.inf, np.inf, (2,)), "x has actions without bounds"),
        (gs.Box(-3e38, 3e38, (2,)), "x has actions without bounds"),
        (gs.Box(0, np.inf, (2,)), "x has actions without bounds"),
        (gs.MultiDiscrete([2, 2]), "x has actions MultiDiscrete"),
        (gs.Box(0, 255, (2,), np.uint8), "x has actions Box"),
    ],
)
def test_actions_without_a_head_are_refused(space: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        spaces.Actions.of(space, "x")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_the_advice_about_actions_without_bounds_works() -> None:
    class Unbounded(gym.Env):  # type: ignore[type-arg]
        observation_space = gs.Box(-1, 1, (2,))
        action_space = gs.Box(-np.inf, np.inf, (2, 3))

        def step(self, action: Any) -> Any:
            return np.zeros(2, np.float32), float(np.sum(action)), False, False, {}

    with pytest.raises(UserError) as caught:
        spaces.Actions.of(Unbounded.action_space, "x")
    advice = str(caught.value).partition("declare bounds: ")[2]
    wrapped = eval(advice, {"gymnasium": gym, "env": Unbounded()})
    actions = spaces.Actions.of(wrapped.action_space, "x")
    assert wrapped.step(actions.to_environment(np.full((1, 6), 0.5)))[1] == 3.0
