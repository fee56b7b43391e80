"""Every finding, from a set that has what it names and nothing else; and no finding in a sound set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from hub_server import buffers, make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data import describe, store
from backbench.benchmarks.data.describe import Finding
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store.episodes import Episodes

HOPPER = "backbench/hopper/medium-2000-v1"

NAME = "toy/walk/medium-v0"
LENGTHS = [4, 6, 3, 5]
STATE, ACTION = Box(-np.inf, np.inf, (5,), np.float64), Box(-1, 1, (2,))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three sets with sidecars: plain, with nested observations and discrete actions, and Arrow."""
    root = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        make(root, NAME, buffers(LENGTHS), STATE, ACTION)
        nested = [
            replace(
                e,
                observations={
                    "goal": (e.observations[:, :2].copy(), e.observations[:, 2:4].copy()),
                    "state": np.arange(len(e.rewards) + 1) % 3,
                },
                actions=np.arange(len(e.rewards)) % 4,
            )
            for e in buffers(LENGTHS)
        ]
        goal = Tuple((Box(-9, 9, (2,), np.float64), Box(-9, 9, (2,), np.float64)))
        make(root, "toy/nested-v0", nested, Dict({"goal": goal, "state": Discrete(3)}), Discrete(4))
        make(root, "toy/arrow-v0", buffers(LENGTHS), STATE, ACTION, data_format="arrow")
        for name in store.names():
            store.write_sidecar(store.path_of(name), store.read(name), {"source": "test"})
    return root


@pytest.fixture
def patched(sound: Path, new_store: Path) -> Path:
    """A copy of the plain set in a store of the test's own; its folder."""
    shutil.copytree(sound / NAME, new_store / NAME)
    return new_store / NAME


def found(name: str = NAME) -> list[tuple[str, str]]:
    return [(f.level, f.message) for f in describe.inspect(name)]


def change(folder: Path, edit: Callable[[Any], None]) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        edit(file)


def renote(folder: Path, **metadata: Any) -> None:
    """Make metadata and sidecar true again, after an edit that is not to be found by its hash."""
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | metadata))
    (folder / store.SIDECAR).unlink()
    store.write_sidecar(folder, store.load(NAME), {})


@pytest.mark.parametrize("name", [NAME, "toy/nested-v0", "toy/arrow-v0"])
def test_a_sound_set_has_no_findings(sound: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(sound))
    assert describe.inspect(name) == []


def test_an_embedded_set_has_no_findings(hopper_store: Path) -> None:
    assert describe.inspect(HOPPER) == []


def test_frames_are_compared_with_the_sidecar(new_store: Path) -> None:
    from backbench.benchmarks.data.store import framestore
    from backbench.benchmarks.data.trajectories import Episode

    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (n + 1, 84, 84), dtype=np.uint8) for n in (3, 2)]
    episodes = [Episode(f, np.arange(len(f) - 1), np.ones(len(f) - 1), True) for f in frames]
    framestore.write("toy/film-v0", episodes, 4, {})
    assert describe.inspect("toy/film-v0") == []
    path = new_store / "toy/film-v0" / store.SIDECAR
    path.write_text(json.dumps(json.loads(path.read_text()) | {"return_mean": 2.6}))
    assert found("toy/film-v0") == [("error", "backbench.json says return_mean 2.6; it is 2.5")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "0" * 64}))
    ((level, message),) = found("toy/film-v0")
    assert level == "error"
    assert "hash has changed" in message


def test_an_absent_set_is_named(new_store: Path) -> None:
    with pytest.raises(DataError, match="data set 'toy/walk/medium-v0' is not in the store"):
        describe.inspect(NAME)


def test_a_missing_sidecar_is_a_warning(patched: Path) -> None:
    (patched / store.SIDECAR).unlink()
    assert found() == [("warning", "its hash was never recorded: no backbench.json lies beside it; records have it")]


def test_a_garbled_sidecar_is_an_error(patched: Path) -> None:
    (patched / store.SIDECAR).write_text("{")
    ((level, message),) = found()
    assert level == "error"
    assert "JSON that ends too early" in message


@pytest.mark.parametrize("file", ["data/main_data.hdf5", "data/metadata.json"])
def test_a_truncated_file_is_an_error(patched: Path, file: str) -> None:
    path = patched / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ((level, message),) = found()
    assert level == "error"
    assert message.startswith("cannot be read: ")
    assert "\n" not in message


def test_wrong_counts_are_errors(patched: Path) -> None:
    path = patched / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_steps": 17, "total_episodes": 3}))
    assert found() == [
        ("error", "it holds 4 episodes where its metadata say 3"),
        ("error", "it holds 18 steps where its metadata say 17"),
    ]


def test_a_missing_episode_is_an_error(patched: Path) -> None:
    change(patched, lambda file: file.__delitem__("episode_1"))
    messages = [message for _, message in found()]
    assert messages[:3] == [
        "it holds 3 episodes where its metadata say 4",
        "it holds 12 steps where its metadata say 18",
        "episode 1 is missing",
    ]


def test_a_repeated_id_is_an_error(patched: Path) -> None:
    change(patched, lambda file: file["episode_3"].attrs.__setitem__("id", 1))
    assert found() == [("error", "episodes 1 and 3 both have the id 1")]


def test_a_wrong_id_is_an_error(patched: Path) -> None:
    change(patched, lambda file: file["episode_3"].attrs.__setitem__("id", 9))
    assert found() == [("error", "episode 3 has the id 9")]


def test_a_wrong_length_attribute_is_an_error(patched: Path) -> None:
    change(patched, lambda file: file["episode_2"].attrs.__setitem__("total_steps", 30))
    assert found() == [("error", "episode 2 has 3 steps where its attribute says 30")]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("array", "place"), [("observations", (3, 2)), ("actions", (3, 1)), ("rewards", 3)])
def test_nan_is_an_error(patched: Path, array: str, place: Any, value: float) -> None:
    change(patched, lambda file: file[f"episode_1/{array}"].__setitem__(place, value))
    outside = [("warning", "episode 1 has actions outside their space, by up to inf")]
    expected = [("error", f"episode 1, step 3: NaN or infinite {array}")]
    assert found() == expected + (outside if array == "actions" and np.isinf(value) else [])


def test_an_empty_episode_is_an_error(patched: Path) -> None:
    def edit(file: Any) -> None:
        for name in ("rewards", "actions", "terminations", "truncations"):
            file[f"episode_1/{name}"].resize(0, axis=0)

    change(patched, edit)
    assert found() == [("error", "episode 1 has no steps"), ("error", "it holds 12 steps where its metadata say 18")]


@pytest.mark.parametrize(
    ("array", "length", "said"),
    [
        ("observations", 6, "6 observations; expected 7"),
        ("actions", 5, "5 actions; expected 6"),
        ("terminations", 4, "4 terminations; expected 6"),
    ],
)
def test_unequal_lengths_are_errors(patched: Path, array: str, length: int, said: str) -> None:
    change(patched, lambda file: file[f"episode_1/{array}"].resize(length, axis=0))
    assert ("error", f"episode 1 has {said}") in found()
    assert not any("hash" in message for _, message in found())


def test_a_wrong_shape_is_an_error(patched: Path) -> None:
    def edit(file: Any) -> None:
        kept = file["episode_1/actions"][:, :1]
        del file["episode_1/actions"]
        file["episode_1/actions"] = kept

    change(patched, edit)
    assert found() == [("error", "episode 1 has actions of shape (1,), not (2,)")]


def test_a_missing_array_is_an_error(patched: Path) -> None:
    change(patched, lambda file: file["episode_2"].__delitem__("rewards"))
    (first, second) = found()
    assert first[0] == "error"
    assert first[1].startswith("episode 2 cannot be read: ")
    assert second == ("error", "it holds 15 steps where its metadata say 18")


def test_a_wrong_recorded_hash_is_an_error(patched: Path) -> None:
    digest = store.sidecar(NAME)["digest"]
    path = patched / store.SIDECAR
    path.write_text(path.read_text().replace(digest, "0" * 64))
    assert found() == [("error", f"its hash is {digest}; backbench.json says {'0' * 64}")]


@pytest.mark.parametrize("key", ["episodes", "steps", "return_mean", "return_std", "return_min", "return_max"])
def test_wrong_recorded_figures_are_errors(patched: Path, key: str) -> None:
    path, noted = patched / store.SIDECAR, store.sidecar(NAME)
    path.write_text(json.dumps(noted | {key: noted[key] * (1 + 1e-7)}))
    assert found() == [], "rounding"
    path.write_text(json.dumps(noted | {key: noted[key] * (1 + 3e-6)}))
    ((level, message),) = found()
    assert level == "error"
    assert message.startswith(f"backbench.json says {key} ")
    path.write_text(json.dumps({k: v for k, v in noted.items() if k != key}))
    assert [level for level, _ in found()] == ["error"]


@pytest.mark.parametrize(
    ("flag", "place", "value", "said"),
    [
        ("terminations", 2, True, "episode 1 is terminated at step 2 but continues to 5"),
        ("truncations", 0, True, "episode 1 is truncated at step 0 but continues to 5"),
        ("truncations", 5, False, "episode 1 is neither terminated nor truncated at its end"),
        ("terminations", 5, True, "episode 1 is both terminated and truncated at its end"),
    ],
)
def test_odd_ends_are_warnings(patched: Path, flag: str, place: int, value: bool, said: str) -> None:
    change(patched, lambda file: file[f"episode_1/{flag}"].__setitem__(place, value))
    renote(patched)
    assert found() == [("warning", said)]


@pytest.mark.parametrize(
    ("spec", "limit"),
    [({"id": "Toy-v0", "max_episode_steps": 5}, 5), ({"id": "Hopper-v5"}, 1000), ({"id": "Toy-v0"}, 0)],
)
def test_an_episode_over_the_time_limit_is_a_warning(
    patched: Path, spec: dict[str, Any], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe, "MUJOCO_LIMIT", 5)
    spec = {"entry_point": "toy:Toy", "kwargs": {}, "additional_wrappers": [], "vector_entry_point": None} | spec
    renote(patched, env_spec=json.dumps(spec))
    assert found() == ([("warning", "episode 1 has 6 steps; the time limit is 5")] if limit else [])


def test_actions_outside_their_space_are_a_warning(patched: Path) -> None:
    change(patched, lambda file: file["episode_1/actions"].__setitem__((2, 1), -1.25))
    change(
        patched, lambda file: file["episode_3/actions"].__setitem__((0, 0), np.nextafter(np.float32(1), np.float32(2)))
    )
    renote(patched)
    assert found() == [("warning", "episode 1 has actions outside their space, by up to 0.25")]


def test_discrete_actions_outside_their_space_are_a_warning(sound: Path, new_store: Path) -> None:
    shutil.copytree(sound / "toy/nested-v0", new_store / "toy/nested-v0")
    change(new_store / "toy/nested-v0", lambda file: file["episode_0/actions"].__setitem__(1, 6))
    assert ("warning", "episode 0 has actions outside their space, by up to 3") in found("toy/nested-v0")


def test_nested_observations_are_checked(sound: Path, new_store: Path) -> None:
    folder = new_store / "toy/nested-v0"
    shutil.copytree(sound / "toy/nested-v0", folder)
    change(folder, lambda file: file["episode_2/observations/goal/_index_1"].__setitem__((3, 0), np.inf))
    assert ("error", "episode 2, step 3: NaN or infinite observations.goal.1") in found("toy/nested-v0")
    change(folder, lambda file: file["episode_2/observations/goal/_index_1"].resize(2, axis=0))
    assert ("error", "episode 2 has 2 observations.goal.1; expected 4") in found("toy/nested-v0")


def test_constant_columns_are_a_warning(patched: Path) -> None:
    def edit(file: Any) -> None:
        for group in file.values():
            group["observations"][:, 1] = 4.0
            group["observations"][:, 3] = 0.0

    change(patched, edit)
    renote(patched)
    assert found() == [("warning", "observations, columns 1, 3: always the same")]


def test_equal_episodes_are_a_warning(patched: Path) -> None:
    def edit(file: Any) -> None:
        for number in (2, 3):
            del file[f"episode_{number}"]
            file.copy("episode_0", f"episode_{number}")
            file[f"episode_{number}"].attrs["id"] = number

    change(patched, edit)
    renote(patched, total_steps=18)
    assert found() == [("warning", "episodes 0 and 2 are equal; 2 repeat an earlier one")]


def test_five_findings_of_a_kind_are_shown(sound: Path, new_store: Path) -> None:
    make(new_store, NAME, buffers([3] * 8), STATE, ACTION)
    change(new_store / NAME, lambda file: [e["rewards"].__setitem__(1, np.nan) for e in file.values()])
    assert found() == [
        *(("error", f"episode {n}, step 1: NaN or infinite rewards") for n in range(5)),
        ("error", "and 3 more: NaN"),
        ("warning", "its hash was never recorded: no backbench.json lies beside it; records have it"),
    ]
    assert Finding("error", "and 3 more: NaN") in describe.examine(new_store / NAME, None)


def test_one_episode_is_in_memory_at_a_time(patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], Episodes.read

    def read(self: Any, number: int) -> Any:
        asked.append(number)
        return real(self, number)

    monkeypatch.setattr(Episodes, "read", read)
    assert found() == []
    assert asked == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    number=st.integers(0, 3),
    array=st.sampled_from(["observations", "actions", "rewards"]),
    value=st.floats(-1, 1, width=32),
)
def test_any_number_that_changed_is_found(
    sound: Path, new_store: Path, data: Any, number: int, array: str, value: float
) -> None:
    shutil.rmtree(new_store / NAME, ignore_errors=True)
    shutil.copytree(sound / NAME, new_store / NAME)
    with h5py.File(new_store / NAME / "data" / "main_data.hdf5", "r+") as file:
        stored = file[f"episode_{number}/{array}"]
        place = tuple(data.draw(st.integers(0, n - 1)) for n in stored.shape)
        before = np.asarray(stored[place])
        stored[place] = value
        same = np.asarray(stored[place]).tobytes() == before.tobytes()
    hashes = [message for _, message in found() if message.startswith("its hash is ")]
    assert len(hashes) == (0 if same else 1)
