"""Windows against the plainest reference, on episodes of every length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.agents.agent import Windows
from backbench.benchmarks.data import trajectories
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def random_episodes(lengths: list[int], seed: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    return [
        Episode(rng.standard_normal((n + 1, 3)), rng.uniform(-1, 1, (n, 2)), 100 * rng.standard_normal(n), bool(i % 2))
        for i, n in enumerate(lengths)
    ]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, context=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_every_window(lengths: list[int], context: int, seed: int) -> None:
    episodes = random_episodes(lengths, seed % 7)
    data = Trajectories.from_episodes(episodes)
    sampler = WindowSampler(data, context, 4, seed, CPU)
    batch = sampler.windows(torch.arange(sum(lengths)))
    at = 0
    for e, n in zip(episodes, lengths, strict=True):
        for start in range(n):
            real = min(context, n - start)  # never into the next episode
            for k in range(context):
                if k < real:
                    t = start + k
                    togo = sum(float(r) for r in e.rewards[t:])
                    assert batch.mask[at, k]
                    assert batch.returns_to_go[at, k].item() == pytest.approx(togo, rel=1e-5, abs=1e-3)
                    assert np.array_equal(batch.states[at, k].numpy(), e.observations[t].astype(np.float32))
                    assert np.array_equal(batch.actions[at, k].numpy(), e.actions[t].astype(np.float32))
                    assert batch.timesteps[at, k] == t
                else:
                    assert not batch.mask[at, k]
                    assert batch.returns_to_go[at, k] == 0
                    assert not batch.states[at, k].any()
                    assert not batch.actions[at, k].any()
                    assert batch.timesteps[at, k] == 0
            at += 1
    drawn = sampler.starts(3)
    assert drawn.min() >= 0
    assert drawn.max() < sum(lengths)
    assert batch.timesteps.dtype == torch.int64
    assert {batch.returns_to_go.dtype, batch.states.dtype, batch.actions.dtype} == {torch.float32}


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 2**32 - 1), step=st.integers(0, 10**7))
def test_a_batch_depends_on_seed_and_number_alone(lengths: list[int], seed: int, step: int) -> None:
    data = Trajectories.from_episodes(random_episodes(lengths))
    fresh = WindowSampler(data, 4, 16, seed, CPU)
    used = WindowSampler(data, 4, 16, seed, CPU)
    for number in (0, 5, step + 1):
        used.batch(number)
    np.random.seed(1)  # noqa: NPY002  the global generators have no part in it
    torch.manual_seed(1)
    assert torch.equal(used.batch(step).states, fresh.batch(step).states)
    assert torch.equal(used.starts(step), fresh.starts(step))


def by_single_rows(data: Trajectories, context: int, starts: torch.Tensor, clipped: bool) -> Windows:
    """The windows as they were made before they were copied in pieces: to the bit what runs have been trained on."""
    rewards = np.clip(data.rewards, -1.0, 1.0) if clipped else data.rewards
    cumulative = np.cumsum(rewards)
    to_go = np.repeat(cumulative[data.offsets[1:] - 1], data.lengths) - cumulative + rewards
    arrays = (to_go.astype(np.float32), data.states, data.actions, np.arange(len(rewards)))
    to_go, states, actions, timesteps = (torch.from_numpy(array) for array in arrays)
    timesteps -= torch.from_numpy(np.repeat(data.offsets[:-1], data.lengths))
    rows = starts[:, None] + torch.arange(context)
    mask = rows < torch.from_numpy(np.repeat(data.offsets[1:], data.lengths))[starts][:, None]
    rows = rows.clamp(max=len(rewards) - 1)
    return Windows(
        returns_to_go=to_go[rows] * mask,
        states=states[rows] * mask.unsqueeze(-1),
        actions=actions[rows] * (mask.unsqueeze(-1) if actions.ndim == 2 else mask),
        timesteps=timesteps[rows] * mask,
        mask=mask,
    )


def assert_same_bits(one: Windows, other: Windows) -> None:
    for field in fields(Windows):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
        assert a.numpy().tobytes() == b.numpy().tobytes(), field.name


@settings(max_examples=100, deadline=None)
@given(
    lengths=LENGTHS,
    context=st.integers(1, 12),
    numbered=st.booleans(),
    clipped=st.booleans(),
    picked=st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
)
def test_the_same_bits_as_ever(
    lengths: list[int], context: int, numbered: bool, clipped: bool, picked: list[int]
) -> None:
    made = Trajectories.from_episodes(random_episodes(lengths, len(picked)))
    data = changed(made, actions=np.arange(sum(lengths)), n_actions=99) if numbered else made
    sampler = WindowSampler(data, context, 4, 0, CPU, clipped)
    starts = torch.tensor(picked) % sum(lengths)  # with and without windows that reach past the data
    assert_same_bits(sampler.windows(starts), by_single_rows(data, context, starts, clipped))
    drawn = torch.from_numpy(np.random.default_rng([0, 7]).integers(sum(lengths), size=4))
    assert_same_bits(sampler.batch(7), by_single_rows(data, context, drawn, clipped))


def test_windows_are_copies_and_the_data_are_not() -> None:
    data = Trajectories.from_episodes(random_episodes([30]))
    sampler = WindowSampler(data, 4, 2, 0, CPU)
    before = data.states.copy()
    for start in (0, 28):  # in pieces, and row by row past the end
        windows = sampler.windows(torch.tensor([start]))
        windows.states.zero_()
        windows.actions.zero_()
    assert np.array_equal(data.states, before)
    assert sampler.states.rows.data_ptr() == data.states.ctypes.data, "the states are in memory twice"


def test_other_seed_or_number_other_batch() -> None:
    data = Trajectories.from_episodes(random_episodes([500, 500]))
    draws = [
        tuple(WindowSampler(data, 4, 16, seed, CPU).starts(step).tolist()) for seed in range(4) for step in range(4)
    ]
    assert len(set(draws)) == len(draws)


def test_drawn_in_proportion_to_length() -> None:
    lengths = [1, 9, 90, 400]
    data = Trajectories.from_episodes(random_episodes(lengths))
    sampler = WindowSampler(data, 3, 1000, 11, CPU)
    starts = torch.cat([sampler.starts(step) for step in range(200)]).numpy()
    draws = len(starts)
    episode = np.searchsorted(data.offsets, starts, side="right") - 1
    for number, n in enumerate(lengths):
        p = n / sum(lengths)
        off = abs((episode == number).sum() - draws * p) / np.sqrt(draws * p * (1 - p))
        assert off < 4, f"episode {number}: {off:.1f} standard deviations"
    # Uniform within an episode, its last steps included.
    counts = np.bincount(starts, minlength=sum(lengths))
    expected = draws / sum(lengths)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi2 - 499) < 5 * np.sqrt(2 * 499)


def test_statistics() -> None:
    episodes = random_episodes([3, 5])
    episodes[0].observations[:, 1] = episodes[1].observations[:, 1] = 4.0  # a state that never moves
    data = Trajectories.from_episodes(episodes)
    seen = np.concatenate([e.observations[:-1] for e in episodes])  # without the states after the last action
    mean, std = data.state_statistics()
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, np.maximum(seen.std(0), 1e-6), rtol=1e-4)
    returns = [float(e.rewards.sum()) for e in episodes]
    summary = data.summary()
    assert (summary["episodes"], summary["steps"]) == (2, 8)
    assert summary["return_mean"] == pytest.approx(np.mean(returns))
    assert summary["return_std"] == pytest.approx(np.std(returns))
    assert (summary["return_min"], summary["return_max"]) == pytest.approx((min(returns), max(returns)))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.one_of(st.integers(1, 40), st.integers(1, 3000)),
    columns=st.integers(1, 20),
    block=st.sampled_from([1, 2, 7, 64, 1000, trajectories.BLOCK]),
    seed=st.integers(0, 999),
)
def test_statistics_to_the_bit(rows: int, columns: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(-5, 5, columns)
    states = (scale * rng.standard_normal((rows, columns)) + rng.standard_normal(columns)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trajectories, "BLOCK", block)
        mean, std = trajectories._moments(states)
    assert mean.tobytes() == states.mean(axis=0, dtype=np.float64).tobytes()
    assert std.tobytes() == states.std(axis=0, dtype=np.float64).tobytes()


@pytest.mark.parametrize("rows", [4095, 4096, 4097, 8192, 50_001])
def test_statistics_of_many_steps_to_the_bit(rows: int) -> None:
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
def test_joined_from_a_stream(lengths: list[int], observed: type, acted: type) -> None:
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


def test_no_episodes() -> None:
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
        (lambda e: changed(e, observations=e.observations[:, :2]), "episode 1 have shapes"),
        (lambda e: changed(e, actions=e.actions[:, :1]), "episode 1 have shapes"),
    ],
)
def test_broken_episodes_are_refused(fault: Callable[[Episode], Episode], said: str) -> None:
    good, bad = random_episodes([4, 4])
    with pytest.raises(DataError, match=said):
        Trajectories.from_episodes([good, fault(bad)], "some/set-v0")


def test_the_hash_sees_every_part() -> None:
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
