"""Windows against the plainest reference, on episodes of every length."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.agents.agent import Windows
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
def test_every_window_equals_a_plain_loop(lengths: list[int], context: int, seed: int) -> None:
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
    discrete=st.booleans(),
    clipped=st.booleans(),
    picked=st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
)
def test_batches_keep_their_bits(
    lengths: list[int], context: int, discrete: bool, clipped: bool, picked: list[int]
) -> None:
    made = Trajectories.from_episodes(random_episodes(lengths, len(picked)))
    data = replace(made, actions=np.arange(sum(lengths)), n_actions=99) if discrete else made
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


def test_another_seed_or_number_gives_another_batch() -> None:
    data = Trajectories.from_episodes(random_episodes([500, 500]))
    draws = [
        tuple(WindowSampler(data, 4, 16, seed, CPU).starts(step).tolist()) for seed in range(4) for step in range(4)
    ]
    assert len(set(draws)) == len(draws)


def test_episodes_are_sampled_in_proportion_to_their_length() -> None:
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


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, share=st.floats(0.01, 1.0), seed=st.integers(0, 6))
def test_the_best_episodes_are_those_of_a_plain_loop(lengths: list[int], share: float, seed: int) -> None:
    """From the largest return down, until the next one does not fit; the best one in any case."""
    data = Trajectories.from_episodes(random_episodes(lengths, seed))
    ranked = sorted(range(len(lengths)), key=lambda i: (data.returns[i], i), reverse=True)
    budget, kept = max(1, int(share * sum(lengths))), [ranked[0]]
    for i in ranked[1:]:
        if sum(lengths[j] for j in kept) + lengths[i] > budget:
            break
        kept.append(i)
    assert data.best(share).tolist() == sorted(kept)
    assert data.best(1.0).tolist() == list(range(len(lengths)))
    sampler = WindowSampler(data, 3, 64, seed, CPU)
    sampler.keep_to(data.best(share))
    started = set(sampler.starts(0).tolist()) | set(sampler.starts(1).tolist())
    allowed = {step for i in kept for step in range(data.offsets[i], data.offsets[i + 1])}
    assert started <= allowed
    every = {int(step) for number in range(40) for step in sampler.starts(number)}
    assert every == allowed
