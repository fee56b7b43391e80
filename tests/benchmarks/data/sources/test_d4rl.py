"""``d4rl`` into the store: the same set from a folder and over HTTP, whatever happens on the way."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from d4rl_files import ARRAYS, FILE, NAME, SIZES, Server, episodes, files, pull, write

from backbench.benchmarks.data import download, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import d4rl
from backbench.benchmarks.plan import suites

pytestmark = pytest.mark.usefixtures("soon")


def test_each_id_has_its_published_file() -> None:
    assert len(d4rl.SOURCE.ids()) == len(set(d4rl.SOURCE.ids())) == 24
    assert d4rl.file_name("d4rl/walker2d/medium-v2") == "walker2d_medium-v2.hdf5"
    assert d4rl.file_name("d4rl/hopper/medium-replay-v2") == "hopper_medium_replay-v2.hdf5"
    assert d4rl.file_name("d4rl/halfcheetah/medium-expert-v2") == "halfcheetah_medium_expert-v2.hdf5"
    assert d4rl.file_name("d4rl/ant/full-replay-v2") == "ant_full_replay-v2.hdf5"
    assert d4rl.PUBLIC == "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
    assert d4rl.VARIABLE == "BACKBENCH_D4RL"
    for name in ("halfcheetah-medium", "hopper-medium-replay", "walker2d-medium-expert"):
        assert suites.resolve("d4rl", name, "d4rl").data_id in d4rl.SOURCE.ids()


@pytest.mark.parametrize("name", ["d4rl/hoper/medium-v2", "d4rl/hopper/medium-v0", "hopper-medium", "../../etc", ""])
def test_unknown_ids_are_refused(new_store: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"d4rl: no data set '.*'.* known: .*d4rl/hopper/medium-v2"):
        pull("nowhere", name)
    assert not new_store.exists()


def test_a_set_is_imported_from_a_folder(new_store: Path, folder: Path, digest: str) -> None:
    lines: list[str] = []
    made = pull(folder, report=lines.append)
    assert made.digest == digest == store.read(NAME).digest
    assert lines == [f"{FILE}: skipped the last 4 steps, an incomplete episode"]
    content = (folder / FILE).read_bytes()
    origin = store.sidecar(NAME)["origin"]
    assert origin == {
        "source": "d4rl",
        "file": FILE,
        "file_bytes": len(content),
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "dropped_steps": 4,
        "final_observation": "recorded",
        "description": "D4RL's hopper_medium-v2, as published; whole episodes only",
        "licence": "CC BY 4.0",
        "citation": origin["citation"],
    }
    assert "arXiv:2004.07219" in origin["citation"]
    assert files(folder) == [FILE], "the user's file stays"
    assert [p.name for p in new_store.iterdir()] == ["d4rl"]
    for path in new_store.rglob("*.json"):
        assert str(folder) not in path.read_text()


def test_the_store_returns_the_files_arrays(new_store: Path, folder: Path) -> None:
    pull(folder)
    data = store.read(NAME)
    assert data.lengths.tolist() == [30, 1, 20]
    assert data.terminated.tolist() == [True, True, False]
    assert np.array_equal(data.states, ARRAYS["observations"][:51])
    assert np.array_equal(data.actions, ARRAYS["actions"][:51])
    assert np.array_equal(data.rewards, ARRAYS["rewards"][:51].astype(np.float64))


@pytest.mark.parametrize("environment", SIZES)
def test_minari_opens_the_set(new_store: Path, tmp_path: Path, environment: str) -> None:
    """With the environment's own spaces; termination and truncation are kept apart."""
    import gymnasium
    import minari

    name = f"d4rl/{environment}/medium-v2"
    arrays = episodes([3, 2, 1], [True, False, True], rest=1, environment=environment)
    write(tmp_path / f"{environment}_medium-v2.hdf5", arrays)
    pull(tmp_path, name)
    dataset = minari.load_dataset(name)
    assert name in minari.list_local_datasets()
    assert (dataset.total_episodes, dataset.total_steps) == (3, 6)
    assert dataset.observation_space.shape == (SIZES[environment][0],)
    assert dataset.action_space.shape == (SIZES[environment][1],)
    made = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4", "ant": "Ant-v4"}
    assert dataset.env_spec.id == made[environment]
    with gymnasium.make(dataset.env_spec) as env:
        assert env.observation_space == dataset.observation_space
    begin = 0
    for e, length, terminated in zip(dataset.iterate_episodes(), [3, 2, 1], [True, False, True], strict=True):
        steps = slice(begin, begin + length)
        last = [False] * (length - 1)
        assert e.terminations.tolist() == [*last, terminated]
        assert e.truncations.tolist() == [*last, not terminated]
        assert e.rewards.dtype == np.float64
        assert np.array_equal(e.rewards, arrays["rewards"][steps])
        assert e.observations.dtype == e.actions.dtype == np.float32
        assert np.array_equal(e.actions, arrays["actions"][steps])
        assert np.array_equal(e.observations[:-1], arrays["observations"][steps])
        assert np.array_equal(e.observations[-1], arrays["next_observations"][steps.stop - 1])
        begin += length


def test_both_ends_at_one_step_are_a_termination(new_store: Path, tmp_path: Path) -> None:
    import minari

    arrays = episodes([3, 2], [True, False])
    arrays["timeouts"][2] = True
    write(tmp_path / FILE, arrays)
    pull(tmp_path)
    ends = [(e.terminations[-1], e.truncations[-1]) for e in minari.load_dataset(NAME).iterate_episodes()]
    assert ends == [(True, False), (False, True)]


def test_without_next_observations_the_last_one_is_repeated(new_store: Path, tmp_path: Path) -> None:
    import minari

    arrays = {name: array for name, array in ARRAYS.items() if name != "next_observations"}
    write(tmp_path / FILE, arrays)
    pull(tmp_path)
    assert store.sidecar(NAME)["origin"]["final_observation"] == "repeated"
    first = next(iter(minari.load_dataset(NAME).iterate_episodes()))
    assert np.array_equal(first.observations[30], ARRAYS["observations"][29])
    assert np.array_equal(first.observations[:30], ARRAYS["observations"][:30])


def test_medium_expert_is_its_own_file(new_store: Path, tmp_path: Path) -> None:
    """Not medium and expert one after the other, though they lie beside it."""
    kinds = {"medium": 1, "expert": 2, "medium_expert": 3}
    made = {kind: episodes([4, 5], [True, False], seed=seed) for kind, seed in kinds.items()}
    for kind, arrays in made.items():
        write(tmp_path / f"hopper_{kind}-v2.hdf5", arrays)
    pull(tmp_path, "d4rl/hopper/medium-expert-v2")
    assert np.array_equal(store.read("d4rl/hopper/medium-expert-v2").states, made["medium_expert"]["observations"])
    (tmp_path / "hopper_medium_expert-v2.hdf5").unlink()
    with pytest.raises(DataError, match=r"hopper_medium_expert-v2.hdf5 is missing; put it there, or give another"):
        pull(tmp_path, "d4rl/hopper/medium-expert-v2")


def test_oddities_are_reported_and_recorded(new_store: Path, tmp_path: Path) -> None:
    arrays = episodes([1001, 5], [False, True])
    arrays["next_observations"][1003, 0] += 1
    write(tmp_path / FILE, arrays)
    lines: list[str] = []
    pull(tmp_path, report=lines.append)
    assert lines == [
        f"warning: {FILE}: 1 episodes are longer than 1,000 steps, the first of them episode 0 with 1,001",
        f"warning: {FILE}: next_observations is not the observation of the next step at 1 steps, the first of them "
        "episode 1, step 2",
    ]
    assert store.sidecar(NAME)["origin"]["discontinuities"] == 1
    assert store.read(NAME).lengths.tolist() == [1001, 5]


def test_a_broken_file_of_the_users_stays(new_store: Path, folder: Path) -> None:
    broken = (folder / FILE).read_bytes()[:-100]
    (folder / FILE).write_bytes(broken)
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        pull(folder)
    assert (folder / FILE).read_bytes() == broken
    assert files(new_store) == []


def test_the_variable_replaces_the_public_address(
    new_store: Path, folder: Path, digest: str, server: Server, monkeypatch: Any
) -> None:
    monkeypatch.setenv("BACKBENCH_D4RL", str(folder))
    assert pull("").digest == digest
    monkeypatch.setenv("BACKBENCH_D4RL", f"{server.url}/")
    assert pull("").digest == digest
    assert len(server.asked) == 1
    monkeypatch.setenv("BACKBENCH_D4RL", "http://me:secret@127.0.0.1")
    with pytest.raises(DataError, match=r"^BACKBENCH_D4RL: .*without name, password"):
        pull("")
    assert pull(folder).digest == digest, "what is said comes first"
    monkeypatch.setenv("BACKBENCH_D4RL", "")
    asked: list[str] = []
    monkeypatch.setattr(
        download, "download", lambda url, *_: asked.append(url) or (_ for _ in ()).throw(DataError("x"))
    )
    with pytest.raises(DataError):
        pull("")
    assert asked == [f"{d4rl.PUBLIC}/{FILE}"]
