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
from backbench.benchmarks.data.windows import EpisodeSampler, ShiftedSampler, WindowSampler, _shuffled

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
    if len(allowed) > 3:
        shifted = ShiftedSampler(data, 1, 64, seed, CPU)
        shifted.keep_to(data.best(share))
        assert {int(step) for number in range(4) for step in shifted.starts(number)} == set(sorted(allowed)[:-3])


def original_window(data: Trajectories, idx: int, K: int) -> range | None:
    """Steps of a window, as Decision Transformer's code for Atari takes them. None if the episode is too short."""
    done = idx + K
    for end in data.offsets[1:].tolist():
        if end > idx:  # the first end of an episode after the index
            done = min(end, done)
            break
    begin = max(start for start in data.offsets[:-1].tolist() if start <= idx)
    return range(done - K, done) if done - K >= begin else None


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    context=st.integers(1, 7),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_shifted_windows_equal_a_plain_loop(lengths: list[int], context: int, batch_size: int, seed: int) -> None:
    count = sum(lengths) - 3 * context
    if count < 1:
        return
    data = Trajectories.from_episodes(random_episodes(lengths, seed % 7))
    sampler = ShiftedSampler(data, context, batch_size, seed, CPU)
    order = [int(i) for epoch in range(3) for i in np.random.default_rng([seed, epoch]).permutation(count)]
    for number in range(min(6, len(order) // batch_size)):
        batch = sampler.batch(number)
        for row, idx in enumerate(order[number * batch_size : (number + 1) * batch_size]):
            steps, real = original_window(data, idx, context), int(batch.mask[row].sum())
            episode = int(np.searchsorted(data.offsets, idx, side="right")) - 1
            first, end = int(data.offsets[episode]), int(data.offsets[episode + 1])
            if steps is None:  # the original would reach into the episode before: this one, padded on the right
                steps = range(first, end) if end - first < context else range(first, first + context)
            assert real == len(steps)
            assert bool(batch.mask[row, :real].all())
            assert np.array_equal(batch.states[row, :real].numpy(), data.states[list(steps)])
            assert np.array_equal(batch.actions[row, :real].numpy(), data.actions[list(steps)])
            assert batch.timesteps[row, :real].tolist() == [t - first for t in steps]
            assert not batch.states[row, real:].any()


def test_an_epoch_of_shifted_windows_takes_each_start_once() -> None:
    data = Trajectories.from_episodes(random_episodes([1] * 30))  # an episode is one step, so a window is its start
    sampler = ShiftedSampler(data, 3, 7, 5, CPU)  # 21 starts: 3 batches an epoch
    epochs = [torch.cat([sampler.starts(3 * epoch + i) for i in range(3)]).tolist() for epoch in range(3)]
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    uneven = ShiftedSampler(data, 3, 10, 5, CPU)  # batches that end within another epoch than they began
    taken = torch.cat([uneven.starts(step) for step in range(21)]).tolist()
    assert sorted(taken) == sorted(10 * list(range(21)))


def test_shifted_batches_depend_on_seed_and_number_alone() -> None:
    data = Trajectories.from_episodes(random_episodes([50, 9, 30]))
    used = ShiftedSampler(data, 4, 16, 3, CPU)
    for number in (0, 9, 40):
        used.batch(number)
    for number in (3, 4, 10_001):
        assert torch.equal(used.batch(number).states, ShiftedSampler(data, 4, 16, 3, CPU).batch(number).states)
        assert not torch.equal(used.starts(number), ShiftedSampler(data, 4, 16, 4, CPU).starts(number))


def test_an_epoch_is_shuffled_once() -> None:
    data = Trajectories.from_episodes(random_episodes([400, 600]))
    sampler = ShiftedSampler(data, 5, 8, 123, CPU)
    before = _shuffled.cache_info().misses
    for step in range(300):  # 985 starts: two epochs and a part of the third
        sampler.batch(step)
    assert _shuffled.cache_info().misses - before == 3


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 2**32 - 1))
def test_episode_windows_begin_with_episodes_drawn_evenly(lengths: list[int], seed: int) -> None:
    data = Trajectories.from_episodes(random_episodes(lengths))
    sampler = EpisodeSampler(data, max(lengths), 64, seed, CPU)
    drawn = torch.cat([sampler.starts(step) for step in range(20)]).numpy()
    starts, counts = np.unique(drawn, return_counts=True)
    assert set(starts) == set(data.offsets[:-1]), "long episodes are no likelier than short ones"
    assert counts.min() > len(drawn) / len(lengths) / 2
    windows = sampler.batch(3)
    assert not windows.timesteps[:, 0].any()
    assert torch.equal(
        windows.mask.sum(1),
        torch.from_numpy(data.lengths)[
            torch.from_numpy(data.offsets.searchsorted(sampler.starts(3).numpy(), side="right") - 1)
        ],
    )
    sampler.keep_to(np.array([0]))
    assert set(sampler.starts(5).tolist()) == {0}
