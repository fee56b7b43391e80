"""``bench data``: lists, shows, verifies and removes data sets, and suggests the closest name for a mistyped one."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from bench_calls import Call

from backbench.benchmarks.data import store


def test_list_and_show_print_sets_sources_and_commands(
    call: Call, hopper_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "backbench/hopper/medium-2000-v1"
    shown = call("data", "show", name)
    assert shown.code == 0
    data = store.read(name)
    assert data.digest in shown.out
    assert f"{len(data.rewards):,}" in shown.out
    listed = call("data", "list").out
    assert name in listed
    rows = {line.split()[0]: line.split() for line in listed.splitlines() if "/" in line}
    assert rows[name][1:] == ["embedded", f"{len(data.rewards):,}", str(len(data.lengths)), rows[name][4], "MIT"]
    assert rows["backbench/walker2d/medium-v1"][2:] == ["MIT", "bench", "data", "make", "backbench/walker2d/medium-v1"]
    assert rows["d4rl/hopper/medium-v2"][1:5] == ["d4rl", "CC", "BY", "4.0"]
    assert "bench data pull minari D4RL/pen/human-v2" in listed
    only = call("data", "list", "--source", "d4rl").out
    assert "d4rl/ant/random-v2" in only
    assert "backbench/" not in only
    shutil.copytree(hopper_store, tmp_path / "copy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "copy"))
    (tmp_path / "copy" / name / "data" / "main_data.hdf5").write_bytes(b"cut")
    broken = call("data", "show", name)
    assert (broken.code, broken.err.count("\n")) == (2, 1)
    assert f"bench data make {name} --force" in broken.err


def test_verify_finds_a_broken_set_and_remove_asks_first(
    call: Call, hopper_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "backbench/hopper/medium-2000-v1"
    shutil.copytree(hopper_store, tmp_path / "copy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "copy"))
    for path in (tmp_path / "copy").rglob("flat.bin"):
        path.unlink()
    for other in store.names():
        if other != name:
            store.remove(other)
    verified = call("data", "verify")
    assert (verified.code, verified.out) == (0, f"sound {name}  sha256 {store.read(name).digest}\n")
    with h5py.File(tmp_path / "copy" / name / "data" / "main_data.hdf5", "r+") as file:
        file["episode_3"]["rewards"][4] = np.nan
    broken = call("data", "verify", name)
    assert broken.code == 1
    assert broken.out.startswith(f"BROKEN {name}\n")
    assert "episode 3" in broken.out
    asked = call("data", "remove", name)
    assert asked.code == 2
    assert "confirm with --yes" in asked.err
    assert store.exists(name)
    removed = call("data", "remove", name, "--yes")
    assert (removed.code, removed.out) == (0, f"removed {name}\n")
    assert list((tmp_path / "copy").iterdir()) == []


def test_showing_an_empty_store_says_how_to_fill_it(call: Call, new_store: Path) -> None:
    answer = call("data", "show")
    assert answer.code == 2
    assert "bench data make" in answer.err


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("hoper-medium", "hopper-medium"),  # a task
        ("d4rl-kitchn", "d4rl-kitchen"),  # a suite
        ("backbench/hoper/medium-2000-v1", "backbench/hopper/medium-2000-v1"),  # in the store
        ("d4rl/ant/randon-v2", "d4rl/ant/random-v2"),  # can be pulled
        ("dqn-replay/qbret/1pct-v0", "dqn-replay/qbert/1pct-v0"),  # can be imported
    ],
)
@pytest.mark.parametrize("command", ["show", "verify", "remove"])
def test_a_mistyped_data_set_gets_the_closest_name(
    call: Call, hopper_store: Path, command: str, name: str, close: str
) -> None:
    answer = call("data", command, name)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert f"data set {name!r} is not in the store" in answer.err
    assert f"did you mean '{close}'?" in answer.err


def test_a_name_that_can_be_had_or_is_like_no_other_gets_no_suggestion(call: Call, new_store: Path) -> None:
    for name in ("hopper-medium", "d4rl/ant/random-v2", "no/such-v0"):
        answer = call("data", "show", name)
        assert answer.code == 2
        assert "did you mean" not in answer.err


@pytest.mark.parametrize("words", [["list", "--source"], ["show", "--data"], ["verify", "--data"], ["pull"]])
def test_a_mistyped_source_gets_the_closest_name(call: Call, new_store: Path, words: list[str]) -> None:
    answer = call("data", *words, "d4lr")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'd4rl'?" in answer.err
