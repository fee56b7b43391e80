"""The measurement of the pixel loader compares equal batches, finds a difference, and writes its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import frame_loading as loading
import numpy as np
import pytest
import torch

from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import WindowSampler

STEPS, CONTEXT = 700, 5


@pytest.fixture
def data(new_store: Path) -> Trajectories:
    return loading.prepared(STEPS)


def loaders(data: Trajectories) -> tuple[WindowSampler, loading.OriginalLoader]:
    sampler = WindowSampler(data, CONTEXT, 4, 0, loading.CPU, clipped=True)
    return sampler, loading.OriginalLoader(data, loading.synthetic(STEPS), CONTEXT)


def test_synthetic_episodes_are_complete_repeatable_and_move() -> None:
    episodes = list(loading.synthetic(9000))
    lengths = [len(e.rewards) for e in episodes]
    assert sum(lengths) == 9000
    assert min(lengths) >= loading.SHORTEST
    assert max(lengths) < loading.LONGEST + loading.SHORTEST
    for one, again in zip(episodes, loading.synthetic(9000), strict=True):
        assert one.observations.shape == (len(one.rewards) + 1, 84, 84)
        assert np.array_equal(one.observations, again.observations)
        assert np.array_equal(one.actions, again.actions)
        changed = (np.diff(one.observations.astype(int), axis=0) != 0).mean()
        assert 0.001 < changed < 0.1, "a game's background stands still, and something moves"


def test_an_existing_set_is_used_again(data: Trajectories) -> None:
    from backbench.benchmarks.data import store

    path = store.path_of(data.name) / "data" / "main_data.hdf5"
    before = path.stat().st_mtime_ns
    assert loading.prepared(STEPS).digest == data.digest
    assert path.stat().st_mtime_ns == before


def test_original_loader_restates_decision_transformers(data: Trajectories) -> None:
    _, original = loaders(data)
    episodes = list(loading.synthetic(STEPS))
    ends = np.cumsum([len(e.rewards) for e in episodes])
    assert original.ends == ends.tolist()
    assert original.start(3) == 3
    assert original.start(int(ends[0]) - 1) == ends[0] - CONTEXT, "it is not moved back to be full"
    assert original.start(int(ends[0])) == ends[0]
    states, actions, returns_to_go, timesteps = original[1]
    frames = episodes[0].observations
    first = np.stack([frames[0], frames[0], frames[0], frames[1]])  # the state of step 1
    assert states.shape == (CONTEXT, 4 * 84 * 84)
    assert torch.equal(states[0], torch.tensor(first.reshape(-1)).float() / 255)
    assert actions.tolist() == [[a] for a in episodes[0].actions[1 : 1 + CONTEXT]]
    clipped = np.clip(episodes[0].rewards, -1, 1)
    assert returns_to_go.flatten().tolist() == [clipped[step:].sum() for step in range(1, 1 + CONTEXT)]
    assert timesteps.tolist() == [[1]]


def test_both_loaders_make_the_same_windows(data: Trajectories) -> None:
    sampler, original = loaders(data)
    edges = [end - 1 for end in original.ends[:-1]]
    loading.assert_equal(sampler, original, [0, 1, 2, 3, *edges, len(original) - 1])


def _pixel(original: loading.OriginalLoader) -> None:
    original.stacks[12][3, 40, 40] ^= 1


def _order(original: loading.OriginalLoader) -> None:
    original.stacks[12] = original.stacks[12][::-1]


def _action(original: loading.OriginalLoader) -> None:
    original.actions[12] = (original.actions[12] + 1) % loading.ACTIONS


def _return(original: loading.OriginalLoader) -> None:
    original.returns_to_go[12] += 1


def _time(original: loading.OriginalLoader) -> None:
    original.timesteps[10] += 1


@pytest.mark.parametrize(
    ("plant", "named"),
    [(_pixel, "states"), (_order, "states"), (_action, "actions"), (_return, "returns-to-go"), (_time, "timesteps")],
)
def test_a_planted_fault_is_found(
    data: Trajectories, plant: Callable[[loading.OriginalLoader], None], named: str
) -> None:
    sampler, original = loaders(data)
    plant(original)
    loading.assert_equal(sampler, original, [100])
    with pytest.raises(AssertionError, match=named):
        loading.assert_equal(sampler, original, [100, 10])


def test_command_writes_and_prints_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "set by the user")  # put back afterwards
    out, folder = tmp_path / "deep" / "loading.json", tmp_path / "kept"
    words = ["--transitions", STEPS, "--batch", 2, "--context", 4, "--repeats", 3, "--out", out, "--store", folder]
    assert loading.main([str(word) for word in words]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert found["disk"]["bytes"] == sum(path.stat().st_size for path in files)
    assert found["disk"]["ratio"] == found["disk"]["bytes"] / (STEPS * 84 * 84)
    (frames,) = folder.rglob("frames.npy")
    assert frames.stat().st_size == 128 + (STEPS + found["episodes"]) * 84 * 84
    assert (found["transitions"], found["slice"], found["batch"], found["context"]) == (STEPS, STEPS, 2, 4)
    assert {name: len(values) for name, values in found["seconds"].items()} == {
        "original": 3, "ours, bytes": 3, "ours, floats": 3
    }  # fmt: skip
    middle = {name: float(np.median(values)) for name, values in found["seconds"].items()}
    assert found["ratios"] == {name: middle["original"] / middle[name] for name in ("ours, bytes", "ours, floats")}
    peaks = [found["memory"][name]["peak"] for name in ("imports", "loaded", "sampling", "training")]
    assert peaks == sorted(peaks)
    assert 50 < peaks[0] < peaks[-1] < 4000
    said = capsys.readouterr().out
    assert f"{STEPS} steps" in said
    assert "at most 1.1" in said
    assert "at least 4" in said
    assert "at most 2000" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--transitions", "0"], "--transitions 0"),
        (["--batch", "-1"], "--batch -1"),
        (["--repeats", "0"], "--repeats 0"),
        (["--transitions", "500", "--context", "200"], "--context 200"),
    ],
)
def test_an_option_out_of_range_is_one_line(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "set by the user")
    out = tmp_path / "loading.json"
    assert loading.main([*words, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        loading.main(["--transition-count", "5"])
    assert ended.value.code == 2
