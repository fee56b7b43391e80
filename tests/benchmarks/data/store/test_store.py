"""The store: what is written reads back, and what is broken is named and left alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import Episode
from backbench.errors import UserError

NAME = "backbench/hopper/handmade-v1"
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


@pytest.mark.parametrize("name", ["/tmp/elsewhere/x-v0", "../elsewhere/x-v0", "a/../../x-v0", "a//b-v0", "", "a/.b-v0"])
def test_paths_are_refused_as_ids(new_store: Path, tmp_path: Path, name: str) -> None:
    """Or ``remove`` would remove what is not the store's."""
    for ask in (store.exists, store.read, store.remove, store.size, store.sidecar):
        with pytest.raises(DataError, match="is no id of a data set"):
            ask(name)


def test_the_hash_is_known_without_reading(new_store: Path, make_episodes: Callable[..., Any]) -> None:
    made = store.write("toy/walk-v0", make_episodes([4, 5]), "Hopper-v5", {})
    assert store.digest("toy/walk-v0") == made.digest
    (new_store / "toy" / "walk-v0" / store.SIDECAR).unlink()
    assert store.digest("toy/walk-v0") is None
    store.read("toy/walk-v0")  # which leaves the flat arrays
    assert store.digest("toy/walk-v0") == made.digest
    os.utime(new_store / "toy" / "walk-v0" / "data" / "main_data.hdf5", (1, 1))
    assert store.digest("toy/walk-v0") is None


def test_what_is_written_reads_back(written: Path, make_episodes: Episodes) -> None:
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
    after = contents(written)
    assert set(after) - set(before) == {flat.FILE}
    assert before.items() <= after.items(), "reading changed something"
    assert sorted(p.name for p in store.root().iterdir() if p.name.startswith(".")) == []


def test_minari_opens_the_set(written: Path, make_episodes: Episodes) -> None:
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
    "no data file": (lambda folder: (folder / "data" / "main_data.hdf5").unlink(), "not in the store"),
    "empty data file": (lambda folder: (folder / "data" / "main_data.hdf5").write_bytes(b""), "cannot be read"),
    "no metadata": (lambda folder: (folder / "data" / "metadata.json").unlink(), "not in the store"),
    "garbled metadata": (
        lambda folder: (folder / "data" / "metadata.json").write_text('{"x": '),
        "JSON that ends too early",
    ),
    "garbled note": (lambda folder: (folder / store.SIDECAR).write_text("{"), "JSON that ends too early"),
    "deep note": (lambda folder: (folder / store.SIDECAR).write_text("[" * 100_000), "more than 64 levels"),
    "deep metadata": (lambda folder: (folder / "data" / "metadata.json").write_text("[" * 100_000), "more than 64 le"),
    "another hash": (other_sidecar, "hash has changed"),
    "one bit": (edit(one_bit), "hash has changed"),
    "NaN": (edit(not_a_number), "NaN or infinite observations"),
    "no steps": (edit(no_steps), "no steps"),
    "lost episode": (edit(lost_episode), "has no 'episode_2'"),
    "lost array": (edit(lost_array), "has no 'episode_0/actions'"),
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
    assert f"bench data make {NAME}" in message
    assert ("--force" in message) == ("is not in the store" not in message), "only what is there is replaced"
    assert "\n" not in message
    assert contents(written) == before


def test_an_absent_set_names_the_command(new_store: Path) -> None:
    assert store.names() == []
    with pytest.raises(DataError, match="bench data pull minari D4RL/door/human-v2"):
        store.read("D4RL/door/human-v2")
    assert not new_store.exists()


def test_a_store_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_episodes: Episodes
) -> None:
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


def test_a_write_replaces_the_old_set(written: Path, make_episodes: Episodes) -> None:
    store.read(NAME)
    made = store.write(NAME, make_episodes([5], seed=3), "Hopper-v5", {})
    for _ in range(2):
        found = store.read(NAME)
        assert (found.digest, found.lengths.tolist()) == (made.digest, [5])
    assert store.names() == [NAME]


def test_a_copied_store_is_the_same_set(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.read(NAME).digest
    shutil.copytree(store.root(), tmp_path / "copy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "copy"))
    assert store.read(NAME).digest == digest


class OneAtATime(Sequence[Episode]):
    """Episodes that are made when they are asked for."""

    def __init__(self, episodes: list[Episode]) -> None:
        self.episodes, self.asked = episodes, 0

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: Any) -> Any:
        self.asked += 1
        e = self.episodes[index]
        return Episode(e.observations.copy(), e.actions.copy(), e.rewards.copy(), e.terminated, e.seed)


def test_episodes_may_be_made_when_they_are_asked_for(new_store: Path, make_episodes: Episodes) -> None:
    episodes = make_episodes([4, 7, 1])
    digest = store.write(NAME, episodes, "Hopper-v5", {}).digest
    given = OneAtATime(episodes)
    made = store.write(NAME, given, "Hopper-v5", {})
    assert made.digest == digest == store.load(NAME).digest
    assert given.asked <= 2 * (len(episodes) + 1)


def test_a_folder_replaces_the_store(written: Path, tmp_path: Path) -> None:
    digest = store.read(NAME).digest
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(store.root(), elsewhere)
    shutil.rmtree(store.root())
    found = store.load(NAME, elsewhere)
    assert (found.digest, found.name) == (digest, NAME)
    (elsewhere / NAME / flat.FILE).unlink()
    before = contents(elsewhere)
    with h5py.File(elsewhere / NAME / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/rewards"][3] += 1.0
    with pytest.raises(DataError, match=f"hash has changed .in {elsewhere}"):
        store.load(NAME, elsewhere)
    assert set(contents(elsewhere)) == set(before), "it left a copy"
    with pytest.raises(DataError, match=f"not in the store {elsewhere}"):
        store.load("some/other-v0", elsewhere)


def by_minari(name: str, observation_space: Any, action_space: Any, episodes: list[dict[str, Any]]) -> None:
    """A set as other programs write it."""
    import minari
    from minari.data_collector import EpisodeBuffer

    buffers = []
    for e in episodes:
        last = np.arange(len(e["rewards"])) == len(e["rewards"]) - 1
        buffers.append(EpisodeBuffer(**e, terminations=last, truncations=np.zeros_like(last)))
    spaces = {"observation_space": observation_space, "action_space": action_space}
    minari.create_dataset_from_buffers(name, buffers, author="a", algorithm_name="b", jpeg_encoding=False, **spaces)


@pytest.mark.filterwarnings("ignore")
def test_nested_observations_and_wide_bounds_are_converted(new_store: Path) -> None:
    rng = np.random.default_rng(0)
    space = Dict({"observation": Box(-9, 9, (3,)), "desired_goal": Box(-9, 9, (2,)), "achieved_goal": Box(-9, 9, (2,))})
    seen = [{k: rng.standard_normal((n, *b.shape)) for k, b in space.items()} for n in (5, 3)]
    taken = [np.array([[-2.0], [2.0], [0.0], [1.0]], np.float32), np.array([[0.5], [-1.0]], np.float32)]
    episodes = [{"observations": o, "actions": a, "rewards": np.ones(len(a))} for o, a in zip(seen, taken, strict=True)]
    by_minari("maze/wide-v0", space, Box(-2, 2, (1,)), episodes)
    joined = [np.concatenate([o["achieved_goal"], o["desired_goal"], o["observation"]], axis=1) for o in seen]
    for data in (store.read("maze/wide-v0"), store.read("maze/wide-v0")):
        assert np.array_equal(data.states, np.concatenate([one[:-1] for one in joined]).astype(np.float32))
        assert data.actions.dtype == np.float32
        assert data.actions.tolist() == [[-1.0], [1.0], [0.0], [0.5], [0.25], [-0.5]]
        assert data.n_actions is None
    text = hashlib.sha256()  # of joined observations and of actions as they are in the files
    for one, actions in zip(joined, taken, strict=True):
        for label, array in (("observations", one), ("actions", actions), ("rewards", np.ones(len(actions)))):
            text.update(f"{label} {array.dtype.str} {array.shape};".encode() + array.tobytes())
        text.update(b"terminated")
    assert data.digest == text.hexdigest()


def numbered(actions: list[Any]) -> list[dict[str, Any]]:
    seen = np.zeros((len(actions) + 1, 2), np.float32)
    return [{"observations": seen, "actions": np.array(actions), "rewards": np.ones(len(actions))}]


@pytest.mark.filterwarnings("ignore")
def test_discrete_actions_start_at_zero(new_store: Path) -> None:
    by_minari("toy/numbered-v0", Box(-1, 1, (2,)), Discrete(3, start=5), numbered([5, 7, 6]))
    for _ in range(2):
        data = store.read("toy/numbered-v0")
        assert (data.actions.dtype, data.actions.tolist(), data.n_actions) == (np.int64, [0, 2, 1], 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("seen", "acted", "actions", "said"),
    [
        (Box(-1, 1, (2,)), Discrete(3), [0, 3], "episode 0 has action 3; its space has 0 to 2"),
        (Box(-1, 1, (2,)), Discrete(3), [0, -1], "episode 0 has action -1"),
        (Box(-1, 1, (2,)), Discrete(3), [0.5, 1.0], "episode 0 has actions of type float64"),
        (Box(-1, 1, (2,)), Box(-1, 1, (2,)), [[0.5], [1.0]], "episode 0 has actions of 1 numbers; its space has 2"),
        (Box(-1, 1, (2,)), Box(-np.inf, 1, (1,)), [[0.5]], "without bounds"),
        (Box(0, 255, (8, 8, 3), np.uint8), Discrete(3), [0], "pixels"),
    ],
)
def test_sets_that_no_agent_can_use_are_refused(
    new_store: Path, seen: Any, acted: Any, actions: Any, said: str
) -> None:
    by_minari("toy/odd-v0", seen, acted, numbered(actions))
    with pytest.raises(UserError, match=said) as caught:
        store.read("toy/odd-v0")
    assert "toy/odd-v0" in str(caught.value)
    assert str(new_store) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (new_store / "toy/odd-v0" / flat.FILE).exists()
