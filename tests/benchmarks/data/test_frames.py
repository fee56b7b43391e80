"""Pixels on disk: windows stacked as the environment stacks, streams, files that are not what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import Frames, writing
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.environments.atari.protocol import STACK
from backbench.errors import UserError

NAME = "backbench/pong/test-v1"
CPU = torch.device("cpu")


def episodes(lengths: list[int], seed: int = 0) -> Iterator[Episode]:
    """Each frame tells its episode (first pixel), its step (second) and is else noise."""
    rng = np.random.default_rng(seed)
    for number, steps in enumerate(lengths):
        frames = rng.integers(0, 256, (steps + 1, 84, 84), dtype=np.uint8)
        frames[:, 0, 0], frames[:, 0, 1] = number, np.arange(steps + 1)
        rewards = rng.choice([-3.0, 0.0, 1.0, 7.0], steps)
        yield Episode(frames, rng.integers(0, 6, steps), rewards, bool(number % 2), seed=number + 1)


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))


def write(lengths: list[int], **origin: object) -> Trajectories:
    return framestore.write(NAME, episodes(lengths), 6, {"algorithm": "dice", "description": "noise", **origin})


def test_minari_opens_what_is_written() -> None:
    made = write([5, 40, 1])
    assert made.digest == store.read(NAME).digest
    opened = minari.load_dataset(NAME)
    assert opened.total_episodes == 3
    assert opened.total_steps == 46
    assert opened.action_space.n == 6
    for ours, theirs in zip(episodes([5, 40, 1]), opened, strict=True):
        np.testing.assert_array_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        np.testing.assert_array_equal(theirs.rewards, ours.rewards)
        assert theirs.terminations[-1] == ours.terminated == (not theirs.truncations[-1])
    assert not opened.storage.jpeg_encoding
    joined = np.load(store.path_of(NAME) / "frames.npy", mmap_mode="r")
    np.testing.assert_array_equal(joined, np.concatenate([e.observations for e in episodes([5, 40, 1])]))


def test_equal_content_has_an_equal_hash_and_any_change_another() -> None:
    digests = {write([3, 4]).digest}
    assert write([3, 4]).digest in digests
    changed = list(episodes([3, 4]))
    changed[1].observations[2, 50, 50] ^= 1
    for case in (changed, list(episodes([3, 4]))[::-1], list(episodes([4, 3])), list(episodes([3, 4], seed=1))):
        digest = framestore.write(NAME, case, 6, {}).digest
        assert digest not in digests
        digests.add(digest)


def test_deleted_frames_are_written_again() -> None:
    made = write([5, 7])
    path = store.path_of(NAME) / "frames.npy"
    before = path.read_bytes()
    path.unlink()
    assert store.read(NAME).digest == made.digest
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.glob(".*")] == []


def stacked(sampler: WindowSampler, data: list[Episode], start: int, context: int) -> tuple[np.ndarray, ...]:
    """One window in plain Python, from whole episodes."""
    for e in data:
        if start < len(e.rewards):
            break
        start -= len(e.rewards)
    states = np.zeros((context, STACK, 84, 84), dtype=np.uint8)
    actions, to_go, times = np.zeros(context, int), np.zeros(context), np.zeros(context, int)
    for k in range(min(context, len(e.rewards) - start)):
        for j in range(STACK):
            states[k, j] = e.observations[max(0, start + k - (STACK - 1 - j))]
        actions[k], to_go[k], times[k] = e.actions[start + k], e.rewards[start + k :].sum(), start + k
    return states, actions, to_go, times


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), context=st.integers(1, 9), clipped=st.booleans())
def test_windows_are_those_of_a_plain_loop(
    lengths: list[int], context: int, clipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("store")))
        data = write(lengths)
        sampler = WindowSampler(data, context, 4, seed=0, device=CPU, clipped=clipped)
        batch = sampler.windows(torch.arange(sum(lengths)))
    whole = list(episodes(lengths))
    if clipped:
        whole = [Episode(e.observations, e.actions, np.clip(e.rewards, -1, 1), e.terminated) for e in whole]
    assert batch.states.dtype == torch.uint8
    for start in range(sum(lengths)):
        states, actions, to_go, times = stacked(sampler, whole, start, context)
        mask = batch.mask[start].numpy()
        np.testing.assert_array_equal(batch.states[start].numpy()[mask], states[mask])
        np.testing.assert_array_equal(batch.actions[start].numpy(), actions)
        np.testing.assert_allclose(batch.returns_to_go[start].numpy(), to_go, atol=1e-5)
        np.testing.assert_array_equal(batch.timesteps[start].numpy(), times)
        # Behind the end nothing of the next episode shows.
        assert not batch.states[start, ~batch.mask[start], -1].any()


@pytest.mark.parametrize("stack", [1, 3])
def test_another_stack_is_the_newest_of_the_frames(stack: int) -> None:
    data = write([30, 20])
    fewer = data.stacked(stack)
    assert fewer.state_shape == (stack, 84, 84)
    assert fewer.digest == data.digest
    assert data.stacked(STACK) is data
    four, some = (WindowSampler(one, 5, 16, 3, CPU).batch(2) for one in (data, fewer))
    assert torch.equal(some.states, four.states[:, :, STACK - stack :])
    assert torch.equal(some.actions, four.actions)


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    data = write([30, 20])
    one, other = (WindowSampler(data, 5, 8, seed=3, device=CPU) for _ in range(2))
    assert torch.equal(one.batch(7).states, other.batch(7).states)
    assert not torch.equal(one.batch(7).states, other.batch(8).states)


def test_states_are_a_view_of_single_frames() -> None:
    """Stacks are not copied: K + 3 frames a window, not 4 K."""
    batch = WindowSampler(write([40]), 8, 2, seed=0, device=CPU).batch(0)
    assert batch.states.untyped_storage().nbytes() == 2 * (8 + STACK - 1) * 84 * 84


def test_only_what_is_read_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a window touches its own frames; nothing maps or loads the file."""
    data = write([50])
    assert isinstance(data.states, Frames)
    read: list[int] = []
    original = Frames.read
    monkeypatch.setattr(Frames, "read", lambda self, first, out: (read.append(len(out)), original(self, first, out)))
    data.states.windows([10, 0], [0, 0], [6, 2], 6)
    assert read == [9, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e.actions.__setitem__(2, 6), "episode 1, step 2: action 6 is outside the game's set, 0 to 5"),
        (lambda e: e.actions.__setitem__(0, -1), "episode 1, step 0: action -1 is outside the game's set"),
        (lambda e: e.rewards.__setitem__(1, np.nan), "episode 1 has NaN or infinite rewards"),
    ],
)
def test_inconsistent_episodes_are_refused(change: object, said: str) -> None:
    bad = list(episodes([3, 4]))
    change(bad[1])  # type: ignore[operator]
    with pytest.raises(DataError, match=said):
        framestore.write(NAME, bad, 6, {})
    assert not store.exists(NAME)
    assert list(store.root().glob(".making-*")) == []


@pytest.mark.parametrize(
    ("episode", "said"),
    [
        (Episode(np.zeros((3, 84, 84), np.uint8), np.zeros(3, int), np.zeros(3), True), "has 3 frames"),
        (Episode(np.zeros((4, 84, 84), np.float32), np.zeros(3, int), np.zeros(3), True), "float32"),
        (Episode(np.zeros((4, 80, 84), np.uint8), np.zeros(3, int), np.zeros(3), True), r"\(4, 80, 84\)"),
        (Episode(np.zeros((4, 84, 84), np.uint8), np.zeros(3), np.zeros(3), True), "float64; expected integers"),
        (Episode(np.zeros((1, 84, 84), np.uint8), np.zeros(0, int), np.zeros(0), True), "no steps"),
    ],
)
def test_frames_of_another_shape_are_refused(episode: Episode, said: str) -> None:
    with pytest.raises(DataError, match=said):
        framestore.write(NAME, [episode], 6, {})
    assert not store.exists(NAME)


def test_a_failed_write_keeps_the_old_set() -> None:
    digest = write([3]).digest

    def failing() -> Iterator[Episode]:
        yield from episodes([4])
        raise DataError("the emulator stopped")

    with pytest.raises(DataError, match="the emulator stopped"):
        framestore.write(NAME, failing(), 6, {})
    assert store.read(NAME).digest == digest


def test_a_set_without_episodes_is_refused() -> None:
    with pytest.raises(DataError, match="no episodes"):
        framestore.write(NAME, [], 6, {})


def test_truncated_frames_are_named() -> None:
    write([5])
    path = store.path_of(NAME) / "frames.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"frames\.npy.*truncated.*bench data make"):
        store.read(NAME)


def test_a_changed_pixel_is_found() -> None:
    write([5])
    path = store.path_of(NAME) / "frames.npy"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="hash has changed"):
        store.read(NAME)


def test_a_broken_hdf5_is_named() -> None:
    write([5])
    path = store.path_of(NAME) / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        store.read(NAME)


def test_an_episode_missing_from_the_hdf5_is_found() -> None:
    write([5, 6])
    with h5py.File(store.path_of(NAME) / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0"]
    with pytest.raises(DataError, match="has no 'episode_0'"):
        store.read(NAME)


def test_clipped_rewards_are_recorded(tmp_path: Path) -> None:
    assert not write([3]).rewards_clipped
    write([3], rewards="clipped")
    assert store.read(NAME).rewards_clipped
    assert json.loads((store.path_of(NAME) / store.SIDECAR).read_text())["origin"]["n_actions"] == 6


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "floats.npy", np.zeros((2, 84, 84)))
    np.save(tmp_path / "flat.npy", np.zeros((2, 84), np.uint8))
    (tmp_path / "text.npy").write_text("hello")
    for name, said in (("floats", "expected uint8"), ("flat", "expected uint8"), ("text", "cannot be read")):
        with pytest.raises(UserError, match=rf"{name}\.npy.*{said}"):
            Frames(tmp_path / f"{name}.npy")
    np.save(tmp_path / "good.npy", np.arange(2 * 84 * 84, dtype=np.uint64).astype(np.uint8).reshape(2, 84, 84))
    read = np.empty((1, 84, 84), np.uint8)
    Frames(tmp_path / "good.npy").read(1, read)
    np.testing.assert_array_equal(read, np.load(tmp_path / "good.npy")[1:])


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8"), writing(tmp_path / "f.npy") as append:
        append(np.zeros((2, 84, 80), np.uint8))
    assert list(tmp_path.iterdir()) == []
