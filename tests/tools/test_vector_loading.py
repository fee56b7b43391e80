"""The measurement of the vector loader compares equal batches, finds a difference, and prints its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loading
import numpy as np
import pytest
import torch
import vector_loading as vectors

from backbench.benchmarks.data import store
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.errors import UserError

STEPS, CONTEXT = 2500, 5


@pytest.fixture
def data(new_store: Path) -> Trajectories:
    return store.read(vectors.prepared(STEPS))


def loaders(data: Trajectories) -> tuple[WindowSampler, vectors.OriginalLoader]:
    return WindowSampler(data, CONTEXT, 4, 0, vectors.CPU), vectors.OriginalLoader(data, CONTEXT, 4)


def test_synthetic_episodes_are_complete_and_repeatable() -> None:
    episodes = list(vectors.synthetic(9000))
    lengths = [len(e.rewards) for e in episodes]
    assert sum(lengths) == 9000
    assert max(lengths) == 1000
    for one, again in zip(episodes, vectors.synthetic(9000), strict=True):
        assert one.observations.shape == (len(one.rewards) + 1, 17)
        assert (one.observations.dtype, one.actions.dtype, one.rewards.dtype) == (np.float32, np.float32, np.float64)
        assert np.array_equal(one.observations, again.observations)
        assert np.array_equal(one.rewards, again.rewards)


def test_an_existing_set_is_used_again(data: Trajectories) -> None:
    path = store.path_of(data.name) / "data" / "main_data.hdf5"
    before = path.stat().st_mtime_ns
    assert vectors.prepared(STEPS) == data.name
    assert path.stat().st_mtime_ns == before


def test_original_loader_restates_decision_transformers(data: Trajectories) -> None:
    _, original = loaders(data)
    first = next(vectors.synthetic(STEPS))
    last = len(first.rewards) - 1
    states, actions, rewards, ends, to_go, times, mask = original.batch([(0, 3), (0, last - 1)])
    mean, std = data.state_statistics()
    assert states.shape == (2, CONTEXT, 17)
    np.testing.assert_allclose(states[0], (first.observations[3:8] - mean) / std, rtol=1e-5, atol=1e-6)
    assert torch.equal(actions[0], torch.from_numpy(first.actions[3:8]))
    np.testing.assert_allclose(to_go[1, :, 0], [0, 0, 0, first.rewards[-2:].sum() / 1000, first.rewards[-1] / 1000])
    assert rewards[1, :, 0].tolist() == [0, 0, 0, *first.rewards[-2:].astype(np.float32).tolist()]
    assert actions[1, :3].unique().tolist() == [-10.0]
    assert ends[1].tolist() == [2, 2, 2, 0, int(first.terminated)]
    assert times[0].tolist() == [3, 4, 5, 6, 7]
    assert times[1].tolist() == [0, 0, 0, last - 1, last]
    assert mask.tolist() == [[1.0] * 5, [0.0, 0.0, 0.0, 1.0, 1.0]]


def test_original_loader_samples_episodes_by_their_length(data: Trajectories) -> None:
    _, original = loaders(data)
    draws = np.array([draw for _ in range(1000) for draw in original.sample()])
    for episode, share in enumerate(data.lengths / STEPS):
        assert abs((draws[:, 0] == episode).mean() - share) < 4 * np.sqrt(share / len(draws))
        starts = draws[draws[:, 0] == episode, 1]
        assert starts.min() >= 0
        assert starts.max() < data.lengths[episode]
        assert abs(starts.mean() / data.lengths[episode] - 0.5) < 0.06


def test_both_loaders_make_the_same_windows(data: Trajectories) -> None:
    sampler, original = loaders(data)
    every = [(e, start) for e, length in enumerate(data.lengths) for start in range(0, int(length), 7)]
    edges = [(e, int(length) - back) for e, length in enumerate(data.lengths) for back in range(1, CONTEXT + 1)]
    vectors.assert_equal(sampler, original, every + edges)


def _state(original: vectors.OriginalLoader) -> None:
    original.episodes[0][0][12, 3] += 0.01


def _action(original: vectors.OriginalLoader) -> None:
    original.episodes[0][1][12, 3] += 0.01


def _return(original: vectors.OriginalLoader) -> None:
    original.episodes[0][2][12] += 0.1


def _padding(original: vectors.OriginalLoader) -> None:
    original.context -= 1


@pytest.mark.parametrize(
    ("plant", "named"), [(_state, "states"), (_action, "actions"), (_return, "returns-to-go"), (_padding, "as long")]
)
def test_a_planted_fault_is_found(
    data: Trajectories, plant: Callable[[vectors.OriginalLoader], None], named: str
) -> None:
    sampler, _ = loaders(data)
    copied = [array.copy() for array in (data.states, data.actions, data.rewards)]
    original = vectors.OriginalLoader(Trajectories(*copied, data.terminated, data.offsets), CONTEXT, 4)
    plant(original)
    with pytest.raises(AssertionError, match=named):
        vectors.assert_equal(sampler, original, [(0, 100), (0, 10)])


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, bool]]:
    """Run the fresh processes' work in this process. Lists the ways, and whether each found a flat copy of the set."""
    ways: list[tuple[str, bool]] = []
    monkeypatch.setenv("MINARI_DATASETS_PATH", "set by the user")  # put back afterwards

    def child(script: str, way: str, sizes: dict[str, Any]) -> dict[str, float]:
        ways.append((way, (store.path_of(sizes["name"]) / flat.FILE).exists()))
        return vectors.child(way, sizes["name"], sizes["batch"], sizes["context"])

    monkeypatch.setattr(vectors, "fresh_process", child)
    return ways


def run(folder: Path, *words: str) -> int:
    sizes = {"--steps": STEPS, "--batch": 3, "--context": 4, "--repeats": 2, "--store": folder}
    return vectors.main([*(str(word) for pair in sizes.items() for word in pair), *words])


def test_command_prints_the_figures_as_json(
    in_this_process: list[tuple[str, bool]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "kept", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    first = [("minari", False), ("cold", False), ("warm", True)]
    again = [("minari", True), ("cold", True), ("warm", True)]
    assert in_this_process == [*first, *again, *again, ("sampling", True)]
    assert {way: len(taken) for way, taken in found["open"].items()} == {"minari": 2, "cold": 2, "warm": 2}
    assert all(one["seconds"] > 0 for taken in found["open"].values() for one in taken)
    middle = {way: np.median([one["seconds"] for one in taken]) for way, taken in found["open"].items()}
    assert found["ratios"]["open"] == middle["minari"] / middle["warm"]
    assert found["memory_mb"]["raw"] == STEPS * (17 * 4 + 6 * 4 + 8) / 1e6
    assert found["ratios"]["memory"] == found["memory_mb"]["sampling"] / found["memory_mb"]["raw"]
    counts = {way: len(values) for way, values in found["batches"].items()}
    assert counts == dict.fromkeys(["original", "ours", "ours, normalised"], 6 * vectors.ROW)
    ours, original = (np.median(found["batches"][way]) for way in ("ours", "original"))
    assert found["ratios"]["batch"] == original / ours
    assert (found["steps"], found["batch"], found["context"], found["threads"]) == (STEPS, 3, 4, 1)
    assert found["goals"] == {"open": 10, "memory": 1.5, "batch": 40}


def test_table_names_figures_and_goals(
    in_this_process: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "kept") == 0
    said = capsys.readouterr().out
    for part in (f"{STEPS:,} steps in 3 episodes", "at least 10: ", "below 1.5: ", "at least 40: ", "second reading"):
        assert part in said


def test_a_failed_fresh_process_is_one_line(data: Trajectories) -> None:
    found = loading.fresh_process(vectors.__file__, "sampling", {"name": data.name, "batch": 3, "context": 4})
    assert set(found) == {"seconds", "grown_mb"}
    assert 0 < found["grown_mb"] < 200
    with pytest.raises(UserError, match=r"warm could not be measured: .*not in the store"):
        loading.fresh_process(vectors.__file__, "warm", {"name": "no/such-v0", "batch": 3, "context": 4})


@pytest.mark.parametrize("flag", ["--steps", "--batch", "--context", "--repeats"])
def test_an_option_out_of_range_is_one_line(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "set by the user")
    assert vectors.main([flag, "0", "--store", str(tmp_path / "kept")]) == 2
    err = capsys.readouterr().err
    assert f"{flag} 0" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "kept").exists()
