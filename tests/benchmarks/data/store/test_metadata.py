"""Metadata of a data set are read, never run: no recorded environment is built, in any command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from hub_server import buffers, make
from minari.serialization import serialize_space

from backbench.benchmarks.data import store
from backbench.benchmarks.data.describe import examine
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.minari import hub
from backbench.benchmarks.data.store import metadata
from backbench.reading import ReadingError

NAME = "me/pendulum/mixed-v0"
SUITE = """
source: local
max_steps: 20
tasks: {swing: {sources: {local: {env_id: Pendulum-v1, data_id: me/pendulum/mixed-v0}}}}
"""


@pytest.fixture
def planted(new_store: Path, tmp_path: Path) -> Path:
    """A set of Pendulum whose recorded environment is a command that makes a file, which is returned."""
    marker = tmp_path / "ran"
    make(new_store, NAME, buffers([4, 6]), Box(-9, 9, (5,), np.float64), Box(-2, 2, (2,)))
    path = new_store / NAME / "data" / metadata.FILE
    spec = {"id": "Any-v0", "entry_point": "os:system", "kwargs": {"command": f"touch {marker}"}}
    wrapper = {"name": "w", "entry_point": "os:system", "kwargs": {"command": f"touch {marker}"}}
    spec |= {"additional_wrappers": [wrapper], "vector_entry_point": "os:system"}
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"env_spec": json.dumps(spec), "eval_env_spec": json.dumps(spec)}
    path.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "swings.yaml").write_text(SUITE, encoding="utf-8")
    return marker


COMMANDS = {
    "show": ["data", "show", NAME],
    "verify": ["data", "verify", NAME],
    "list": ["data", "list"],
    "run": ["run", "--backbone", "identity", "--suite", "swings.yaml", "--data", "local", "--preset", "smoke"],
}


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_a_missing_space_is_one_line_and_no_environment_is_built(
    planted: Path, new_store: Path, space: str, bench: Callable[..., Any]
) -> None:
    path = new_store / NAME / "data" / metadata.FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    del content[space]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=f"{space} is missing; Backbench does not run the recorded environment"):
        store.read(NAME)
    assert f"{space} is missing" in examine(new_store / NAME, None)[0].message
    with pytest.raises(DataError, match=f"{space} is missing"):  # as a download is checked
        hub._checked(NAME, store.path_of(NAME), "", {}, print)
    for name in COMMANDS if space == "observation_space" else ():
        ran = bench(*COMMANDS[name])
        assert "Traceback" not in ran.err
        assert ran.code == {"show": 2, "verify": 1, "list": 0, "run": 2}[name], ran.err
    assert not planted.exists()


def test_complete_metadata_run_nothing_either(planted: Path, new_store: Path) -> None:
    assert len(store.read(NAME).rewards) == 10
    assert store.recorded_spaces(NAME)[1] == Box(-2, 2, (2,))
    assert [f.level for f in examine(new_store / NAME, None)] == []
    assert not planted.exists()


SPACES = [
    Box(-np.inf, np.inf, (5,), np.float64), Box(0, 255, (8, 8, 3), np.uint8), Discrete(4, start=-1),
    MultiDiscrete([3, 2]), MultiBinary(4), MultiBinary([2, 3]),
    Dict({"a": Tuple((Box(-1, 1, (2,)), Discrete(3))), "b": Box(-1, 1, (1,), np.float64)}),
]  # fmt: skip


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spaces_are_read_as_minari_writes_them(space: Any) -> None:
    assert metadata.space(serialize_space(space), "x") == space


@pytest.mark.parametrize(
    "written",
    [
        {"type": "Box", "shape": [10**6, 10**6], "dtype": "float32", "low": [0], "high": [1]},
        {"type": "Box", "shape": [2], "dtype": "object", "low": [0, 0], "high": [1, 1]},
        {"type": "Box", "shape": [2], "dtype": "float32", "low": [0], "high": [1]},
        {"type": "Discrete", "n": 10**12}, {"type": "Discrete", "n": -1}, {"type": "Discrete", "n": True},
        {"type": "MultiDiscrete", "nvec": [10**9, 10**9]}, {"type": "MultiDiscrete", "nvec": [1.5]},
        {"type": "MultiBinary", "n": 10**12}, {"type": "os:system"}, {"type": ["Box"]}, {}, [], 3,
        {"type": "Dict", "subspaces": {"../x": {"type": "Discrete", "n": 2}}}, {"type": "Tuple", "subspaces": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_space_out_of_bounds_is_refused(written: Any) -> None:
    with pytest.raises(ReadingError, match=r"^x: observation_space is no space"):
        metadata.space(json.dumps(written), "x: observation_space")


def test_spaces_within_spaces_have_a_limit() -> None:
    written: Any = {"type": "Discrete", "n": 2}
    for _ in range(20):
        written = {"type": "Tuple", "subspaces": [written]}
    with pytest.raises(ReadingError, match="more than 8 within each other"):
        metadata.space(json.dumps(written), "x")


def test_bounds_of_actions_that_changed_are_found(planted: Path, new_store: Path) -> None:
    """The data's hash is of the environment's own actions. Their bounds decide what the agent learns."""
    store.write_sidecar(new_store / NAME, store.read(NAME), {})
    path = new_store / NAME / "data" / metadata.FILE
    path.write_text(path.read_text(encoding="utf-8").replace("[2.0, 2.0]", "[2.0, 3.0]"), encoding="utf-8")
    with pytest.raises(DataError, match="its spaces have changed"):
        store.read(NAME)
    assert "its spaces are not those" in examine(new_store / NAME, store.sidecar(NAME))[0].message


def test_a_pipe_among_the_files_of_a_set_is_not_waited_for(planted: Path, new_store: Path) -> None:
    os.mkfifo(new_store / NAME / "flat.bin")  # a copy that does not fit counts as absent
    assert len(store.read(NAME).rewards) == 10
    (new_store / NAME / "flat.bin").unlink()
    for name in ("backbench.json", "data/main_data.hdf5"):
        (new_store / NAME / name).unlink(missing_ok=True)
        os.mkfifo(new_store / NAME / name)
        with pytest.raises(DataError, match="is a pipe or device, not a file"):
            store.read(NAME)
        (new_store / NAME / name).unlink()


def test_a_flat_copy_that_arrives_with_a_set_does_not_count(planted: Path, new_store: Path, tmp_path: Path) -> None:
    """Its header may claim any hash: of a published set, say. Times of modification can be copied with it."""
    store.read(NAME)
    shutil.copytree(new_store / NAME, tmp_path / "sent", copy_function=shutil.copy2)
    shutil.rmtree(new_store / NAME)
    shutil.copytree(tmp_path / "sent", new_store / NAME, copy_function=shutil.copy2)
    assert (new_store / NAME / "flat.bin").is_file()
    assert store.digest(NAME) is None
