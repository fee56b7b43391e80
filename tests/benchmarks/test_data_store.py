"""The store: what is written reads back, and what is broken is named and left alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import DataError, Episode

NAME = "backbench/hopper/handmade-v0"
Episodes = Callable[..., list[Episode]]


@pytest.fixture
def written(new_store: Path, make_episodes: Episodes) -> Path:
    """A data set of three episodes in a store of its own; its folder."""
    store.write(NAME, make_episodes([4, 7, 1]), "Hopper-v5", {"algorithm": "dice", "description": "random numbers"})
    return new_store / NAME


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


def test_round_trip(written: Path, make_episodes: Episodes) -> None:
    before = contents(written)
    data = store.read(NAME)
    episodes = make_episodes([4, 7, 1])
    assert data.lengths.tolist() == [4, 7, 1]
    assert np.array_equal(data.rewards, np.concatenate([e.rewards for e in episodes]))
    assert np.array_equal(data.actions, np.concatenate([e.actions for e in episodes]))
    states = np.concatenate([e.observations[:-1] for e in episodes])
    assert np.array_equal(data.states, states.astype(np.float32))
    assert data.terminated.tolist() == [True, False, True]
    assert data.digest == store.sidecar(NAME)["digest"]
    assert store.names() == [NAME]
    assert contents(written) == before, "reading wrote something"
    assert sorted(p.name for p in store.root().iterdir() if p.name.startswith(".")) == []


def test_minari_opens_it(written: Path, make_episodes: Episodes) -> None:
    import gymnasium
    import minari

    dataset = minari.load_dataset(NAME)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 12)
    env = gymnasium.make("Hopper-v5")
    assert dataset.observation_space == env.observation_space
    assert dataset.action_space == env.action_space
    assert dataset.spec.env_spec.id == "Hopper-v5"
    env.close()
    for theirs, ours in zip(dataset.iterate_episodes(), make_episodes([4, 7, 1]), strict=True):
        assert np.array_equal(theirs.observations, ours.observations)
        assert np.array_equal(theirs.actions, ours.actions)
        assert np.array_equal(theirs.rewards, ours.rewards)
        assert theirs.terminations.tolist() == [False] * (len(ours.rewards) - 1) + [ours.terminated]
        assert theirs.truncations.tolist() == [False] * (len(ours.rewards) - 1) + [not ours.terminated]


def test_a_set_of_another_program_is_read_too(written: Path) -> None:
    (written / store.SIDECAR).unlink()
    assert store.sidecar(NAME) == {}
    assert store.read(NAME).lengths.tolist() == [4, 7, 1]


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
            change(file)

    return fault


def truncate(folder: Path) -> None:
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_bit(file: Any) -> None:
    file["episode_1/rewards"][3] = np.nextafter(file["episode_1/rewards"][3], np.inf)


def no_steps(file: Any) -> None:
    group = file["episode_1"]
    for name in ("rewards", "actions", "terminations", "truncations"):
        kept = group[name][:0]
        del group[name]
        group[name] = kept
    group.attrs["total_steps"] = 0


def not_a_number(file: Any) -> None:
    file["episode_2/observations"][1, 5] = np.nan


def lost_episode(file: Any) -> None:
    del file["episode_2"]


def lost_array(file: Any) -> None:
    del file["episode_0/actions"]


def other_sidecar(folder: Path) -> None:
    path = folder / store.SIDECAR
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "0" * 64}))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "cannot be read"),
    "no data file": (lambda folder: (folder / "data" / "main_data.hdf5").unlink(), "cannot be read"),
    "empty data file": (lambda folder: (folder / "data" / "main_data.hdf5").write_bytes(b""), "cannot be read"),
    "no metadata": (lambda folder: (folder / "data" / "metadata.json").unlink(), "not in the store"),
    "garbled metadata": (lambda folder: (folder / "data" / "metadata.json").write_text('{"x": '), "cannot be read"),
    "garbled note": (lambda folder: (folder / store.SIDECAR).write_text("{"), "not valid JSON"),
    "another hash": (other_sidecar, "hash has changed"),
    "one bit": (edit(one_bit), "hash has changed"),
    "NaN": (edit(not_a_number), "NaN or infinite observations"),
    "no steps": (edit(no_steps), "no steps"),
    "lost episode": (edit(lost_episode), "cannot be read"),
    "lost array": (edit(lost_array), "cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_broken_is_named_and_left_alone(written: Path, fault: str) -> None:
    break_it, said = FAULTS[fault]
    break_it(written)
    before = contents(written)
    with pytest.raises(DataError, match=said) as caught:
        store.read(NAME)
    message = str(caught.value)
    assert NAME in message
    assert str(store.root()) in message, "does not say where"
    assert f"bench data make {NAME} --force" in message
    assert "\n" not in message
    assert contents(written) == before


def test_absent(new_store: Path) -> None:
    assert store.names() == []
    with pytest.raises(DataError, match="minari download D4RL/door/human-v2"):
        store.read("D4RL/door/human-v2")
    assert not new_store.exists()


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_episodes: Episodes) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "store"))
    with pytest.raises(DataError, match=r"cannot write to the data store .*set MINARI_DATASETS_PATH"):
        store.write(NAME, make_episodes([2]), "Hopper-v5", {})
    assert (tmp_path / "file").read_text() == "mine"


def failing_move(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the ``number``-th rename fail."""
    real, calls = os.replace, []

    def replace(*paths: Any, **options: Any) -> None:
        calls.append(paths)
        if len(calls) == number:
            raise OSError(28, "No space left on device")
        real(*paths, **options)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("number", [1, 2])
def test_a_move_that_fails_keeps_the_old_set(
    written: Path, make_episodes: Episodes, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = contents(store.root())
    failing_move(number, monkeypatch)
    with pytest.raises(DataError, match="No space left"):
        store.write(NAME, make_episodes([5]), "Hopper-v5", {})
    assert contents(store.root()) == before
    assert store.read(NAME).lengths.tolist() == [4, 7, 1]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_nothing(
    new_store: Path, make_episodes: Episodes, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    import minari

    def fail(name: str, *_: Any, **__: Any) -> None:
        (Path(os.environ["MINARI_DATASETS_PATH"]) / name / "data").mkdir(parents=True)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(minari, "create_dataset_from_buffers", fail)
        with pytest.raises((DataError, RuntimeError, KeyboardInterrupt)):
            store.write(NAME, make_episodes([5]), "Hopper-v5", {})
    assert [p for p in new_store.rglob("*") if p.is_file()] == []
    assert os.environ["MINARI_DATASETS_PATH"] == str(new_store)
    assert not store.exists(NAME)
    store.write(NAME, make_episodes([5]), "Hopper-v5", {})
    assert store.read(NAME).lengths.tolist() == [5]


def test_a_write_replaces(written: Path, make_episodes: Episodes) -> None:
    store.write(NAME, make_episodes([5], seed=3), "Hopper-v5", {})
    assert store.read(NAME).lengths.tolist() == [5]
    assert store.names() == [NAME]


def test_a_copied_store_is_the_same_set(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.read(NAME).digest
    shutil.copytree(store.root(), tmp_path / "copy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "copy"))
    assert store.read(NAME).digest == digest
