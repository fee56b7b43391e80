"""Trajectories: joined from episodes, hashed, and with the bits of NumPy in their statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data import trajectories
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.trajectories import Episode, Trajectories


def random_episodes(lengths: list[int], seed: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    return [
        Episode(rng.standard_normal((n + 1, 3)), rng.uniform(-1, 1, (n, 2)), 100 * rng.standard_normal(n), bool(i % 2))
        for i, n in enumerate(lengths)
    ]


def test_statistics_equal_a_plain_computation() -> None:
    episodes = random_episodes([3, 5])
    episodes[0].observations[:, 1] = episodes[1].observations[:, 1] = 4.0  # a state that never moves
    data = Trajectories.from_episodes(episodes)
    seen = np.concatenate([e.observations[:-1] for e in episodes])  # without the states after the last action
    mean, std = data.state_statistics()
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, [seen[:, 0].std(), 1.0, seen[:, 2].std()], rtol=1e-4)
    returns = [float(e.rewards.sum()) for e in episodes]
    summary = data.summary()
    assert (summary["episodes"], summary["steps"]) == (2, 8)
    assert summary["return_mean"] == pytest.approx(np.mean(returns))
    assert summary["return_std"] == pytest.approx(np.std(returns))
    assert (summary["return_min"], summary["return_max"]) == pytest.approx((min(returns), max(returns)))


def with_columns(*columns: np.ndarray) -> Trajectories:
    states = np.stack(columns, 1).astype(np.float32)
    steps = len(states)
    return Trajectories(states, states[:, :1], np.zeros(steps), np.ones(1, bool), np.array([0, steps]))


def test_columns_that_do_not_vary_have_a_scale_of_one() -> None:
    """A constant in the data that is a little off when acting must not become thousands."""
    noise = np.random.default_rng(0).standard_normal(1000)
    still = [0.5 + 0 * noise, 0.1 + 0 * noise, 0 * noise, 1e-17 * noise, 1 + 3e-8 * noise, 1e5 * (1 + 3e-8 * noise)]
    data = with_columns(*still, noise)
    mean, scale = data.state_statistics()
    assert data.still_columns == [0, 1, 2, 3, 4, 5]
    assert scale[:6].tolist() == [1.0] * 6
    acting = np.full(7, 0.55, dtype=np.float32)
    assert abs((acting - mean) / scale)[0] == pytest.approx(0.05, rel=1e-5)


def test_columns_that_vary_keep_their_deviation_to_the_bit() -> None:
    noise = np.random.default_rng(1).standard_normal(1000)
    data = with_columns(noise, 1e-5 * noise, 100 + 1e-3 * noise, 1e6 * noise)
    assert data.still_columns == []
    assert isinstance(data.states, np.ndarray)
    assert np.array_equal(data.state_statistics()[1], data.states.std(axis=0, dtype=np.float64).astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.one_of(st.integers(1, 40), st.integers(1, 3000)),
    columns=st.integers(1, 20),
    block=st.sampled_from([1, 2, 7, 64, 1000, trajectories.BLOCK]),
    seed=st.integers(0, 999),
)
def test_statistics_have_the_bits_of_numpy(rows: int, columns: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-5, 5, columns)
    states = (scale * rng.standard_normal((rows, columns)) + rng.standard_normal(columns)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trajectories, "BLOCK", block)
        mean, std = trajectories._moments(states)
    assert mean.tobytes() == states.mean(axis=0, dtype=np.float64).tobytes()
    assert std.tobytes() == states.std(axis=0, dtype=np.float64).tobytes()


@pytest.mark.parametrize("rows", [4095, 4096, 4097, 8192, 50_001])
def test_statistics_of_many_steps_have_the_bits_of_numpy(rows: int) -> None:
    states = np.random.default_rng(rows).standard_normal((rows, 17)).astype(np.float32)
    data = Trajectories(states, states[:, :2], states[:, 0].astype(np.float64), np.ones(1, bool), np.array([0, rows]))
    mean, std = data.state_statistics()
    assert np.array_equal(mean, states.mean(axis=0, dtype=np.float64).astype(np.float32))
    assert np.array_equal(std, states.std(axis=0, dtype=np.float64).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    observed=st.sampled_from([np.float32, np.float64]),
    acted=st.sampled_from([np.float32, np.float64]),
)
def test_episodes_join_from_a_stream(lengths: list[int], observed: type, acted: type) -> None:
    episodes = [
        changed(e, observations=e.observations.astype(observed), actions=e.actions.astype(acted))
        for e in random_episodes(lengths)
    ]
    data = Trajectories.from_episodes(iter(episodes), "a/set-v0")
    expected = {
        "states": np.concatenate([e.observations[:-1] for e in episodes]).astype(np.float32),
        "actions": np.concatenate([e.actions for e in episodes]).astype(np.float32),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminated": np.array([e.terminated for e in episodes]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }
    for name, array in expected.items():
        found = getattr(data, name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        assert np.array_equal(found, array), name
        assert found.flags.owndata, f"{name} holds on to more than it shows"
    text = hashlib.sha256()  # the definition that published boards go by
    for e in episodes:
        for label in ("observations", "actions", "rewards"):
            array = getattr(e, label)
            text.update(f"{label} {array.dtype.str} {array.shape};".encode() + array.tobytes())
        text.update(b"terminated" if e.terminated else b"truncated")
    assert data.digest == text.hexdigest()


def test_a_set_without_episodes_is_refused() -> None:
    with pytest.raises(DataError, match="'a/set-v0' has no episodes"):
        Trajectories.from_episodes(iter([]), "a/set-v0")


def changed(made: Any, **values: Any) -> Any:
    return replace(made, **values)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda e: changed(e, rewards=e.rewards[:0], actions=e.actions[:0]), "episode 1 has no steps"),
        (lambda e: changed(e, rewards=e.rewards[:-1]), "episode 1 has 5 observations, 4 actions and 3 rewards"),
        (lambda e: changed(e, observations=e.observations[:-1]), "episode 1 has 4 observations"),
        (lambda e: changed(e, rewards=e.rewards * np.nan), "episode 1 has NaN or infinite rewards"),
        (lambda e: changed(e, actions=e.actions + np.inf), "episode 1 has NaN or infinite actions"),
        (lambda e: changed(e, observations=e.observations[:, :2]), "episode 1 has observations and actions of shapes"),
        (lambda e: changed(e, actions=e.actions[:, :1]), "episode 1 has observations and actions of shapes"),
    ],
)
def test_broken_episodes_are_refused(fault: Callable[[Episode], Episode], said: str) -> None:
    good, bad = random_episodes([4, 4])
    with pytest.raises(DataError, match=said):
        Trajectories.from_episodes([good, fault(bad)], "some/set-v0")


def test_the_hash_covers_every_part() -> None:
    base = random_episodes([4, 6])
    e = base[1]
    bumped = e.rewards.copy()
    bumped[-1] = np.nextafter(bumped[-1], np.inf)
    last = e.observations.copy()
    last[-1, -1] += 1e-9  # the state after the last action
    others = [
        [base[0]],
        base[::-1],
        [base[0], changed(e, rewards=bumped)],
        [base[0], changed(e, observations=last)],
        [base[0], changed(e, terminated=not e.terminated)],
        [base[0], changed(e, actions=e.actions.astype(np.float32))],
    ]
    digests = {Trajectories.from_episodes(episodes).digest for episodes in [base, *others]}
    assert len(digests) == len(others) + 1
    assert Trajectories.from_episodes(random_episodes([4, 6])).digest in digests
