"""``bench watch`` plays the recorded episode again and shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backbench.agents.agent import Agent
from backbench.benchmarks.cli.app import main
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode
from backbench.benchmarks.environments.atari.emulator import action_names
from backbench.benchmarks.environments.atari.kind import AtariBatch
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.kind import Camera
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell, EvalConfig, ModelConfig, TrainConfig
from backbench.benchmarks.replay import pictures
from backbench.benchmarks.replay import watch as module
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.replay.watch import OneEpisode, Playback, Request, replay, watch
from backbench.benchmarks.run import cell as cells
from backbench.benchmarks.run.checkpoint import save_weights
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

CPU = torch.device("cpu")
CAMERA = Camera(1 / 15, lambda states: states[0, -1].copy())


@pytest.fixture(scope="session")
def gym(hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of results and its record, of robots that fall at different times."""
    cell = tiny_cell(
        "mlp", eval=EvalConfig(episodes=3, max_steps=250), train=TrainConfig(steps=15, batch_size=8, lr=1e-2)
    )
    results = tmp_path_factory.mktemp("gym")
    return results, cells.run_cell(cell, results, "cpu")


@pytest.fixture(scope="session")
def atari(_away_from_home: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same for a game. Actions are sampled."""
    rng = np.random.default_rng(0)
    episodes = [
        Episode(rng.integers(0, 255, (n + 1, 84, 84), dtype=np.uint8), rng.integers(0, 4, n), np.ones(n), True, n)
        for n in (20, 30)
    ]
    framestore.write("watch/breakout/x-v0", episodes, 4, {})
    task = replace(suites.resolve("atari", "breakout", "embedded"), data_id="watch/breakout/x-v0")
    cell = Cell(
        "mlp", task, "smoke", model=ModelConfig(d_model=16, n_layers=1, context=4),
        train=TrainConfig(steps=2, batch_size=4, warmup=1), eval=EvalConfig(episodes=2, max_steps=400),
        atari=AtariProtocol(),
    )  # fmt: skip
    results = tmp_path_factory.mktemp("atari")
    return results, cells.run_cell(cell, results, "cpu")


def played_again(results: Path, record: Record) -> list[tuple[list[float], list[int]]]:
    assert record.scores is not None, record.failure
    cell = cell_of(record.provenance.config)
    agent = load_agent(cell, cell.checkpoint_folder(results) / "last.safetensors", head_of(record))
    scores = record.scores.last.targets
    found = []
    for index in range(len(scores)):
        again = [replay(cell, agent, scores, (index, n), cell.max_steps) for n in range(cell.eval.episodes)]
        found.append(([returned for _, returned, _ in again], [length for _, _, length in again]))
    return found


@pytest.mark.parametrize("suite", ["gym", "atari"])
def test_every_replayed_episode_is_the_same_to_the_bit(suite: str, request: pytest.FixtureRequest) -> None:
    results, record = request.getfixturevalue(suite)
    scores = record.scores.last.targets
    assert played_again(results, record) == [(list(score.returns), list(score.lengths)) for score in scores]
    lengths = {length for score in scores for length in score.lengths}
    assert len(lengths) > 1, "all episodes end together: the test sees nothing"


class Corridor:
    """One environment that pays its step's number and ends after ``life`` steps."""

    def __init__(self, life: int) -> None:
        self.life, self.time, self.actions = life, 0, []

    def reset(self, seeds: Sequence[int]) -> Any:
        assert list(seeds) == [11]
        return np.zeros((1, 4, 2, 2), dtype=np.uint8)

    def step(self, numbers: Sequence[int], actions: Any) -> Any:
        assert list(numbers) == [0]
        self.time += 1
        self.actions.append(actions.tolist())
        state = np.full((1, 4, 2, 2), self.time, dtype=np.uint8)
        return state, np.array([float(self.time)]), np.array([self.time == self.life])

    def close(self) -> None:
        self.time = -1


def test_copies_leave_when_the_record_says_that_their_episode_ended() -> None:
    inner = Corridor(4)
    alone = OneEpisode(inner, 1, [2, 99, 3], CAMERA)  # type: ignore[arg-type]
    assert alone.reset([10, 11, 12]).shape == (3, 4, 2, 2)
    running, left = [0, 1, 2], []
    for time in range(1, 5):
        states, rewards, ended = alone.step(running, 10 * time + np.array(running))
        assert states.shape[0] == len(rewards) == len(running)
        assert (states == time).all()
        assert (rewards == time).all()
        left.append([number for number, gone in zip(running, ended, strict=True) if gone])
        running = [number for number, gone in zip(running, ended, strict=True) if not gone]
    assert left == [[], [0], [2], [1]]
    assert inner.actions == [[11], [21], [31], [41]]
    seen = alone.playback
    assert [view[0, 0] for view in seen.views] == [0, 1, 2, 3, 4]
    assert (seen.actions, seen.rewards) == ([11, 21, 31, 41], [1, 2, 3, 4])
    assert seen.earned(False).tolist() == [0, 1, 3, 6, 10]
    assert seen.earned(True).tolist() == [0, 1, 2, 3, 4]
    alone.close()
    assert inner.time == -1


def test_all_copies_end_with_the_played_episode() -> None:
    alone = OneEpisode(Corridor(1), 1, [5, 5], CAMERA)  # type: ignore[arg-type]
    alone.reset([10, 11])
    assert alone.step([0, 1], np.array([0, 0]))[2].tolist() == [True, True]


def test_a_game_is_shown_from_its_first_frame(atari: Any, tmp_path: Path) -> None:
    results, record = atari
    target = record.scores.last.targets[1]
    lines = watch(Request("breakout", results, episode=1, target=target.target, out=tmp_path, frames=3))
    said = "\n".join(lines)
    assert f"return {target.returns[1]:g} in {target.lengths[1]} steps; this episode is the same" in said
    stem = tmp_path / f"{record.key}-t{target.target:g}-e1"
    assert sorted(tmp_path.iterdir()) == [Path(f"{stem}.gif"), Path(f"{stem}.png")]
    assert f"written: {stem}.png" in lines
    strip = np.asarray(Image.open(f"{stem}.png"))
    assert strip.shape[1] == 2 * (252 + 8) + 8
    # The first picture is the first frame that the environment gave.
    seed = int(np.random.SeedSequence(1000).generate_state(2)[1])
    envs = AtariBatch("breakout", 1, AtariProtocol())
    first = envs.reset([seed])[0, -1]
    envs.close()
    expected = np.kron(first, np.ones((3, 3), dtype=np.uint8))[:, :, None].repeat(3, axis=2)
    rows = [y for y in range(150) if np.array_equal(strip[y : y + 252, 8:260], expected)]
    assert len(rows) == 1
    with Image.open(f"{stem}.gif") as film:
        assert film.size == (252, 252)
        assert film.info["loop"] == 0
        assert 2 < film.n_frames <= module.MOST_PICTURES


def test_captions_name_the_action_and_the_rewards(atari: Any) -> None:
    cell = cell_of(atari[1].provenance.config)
    assert cell.task.rewards == "clipped"
    seen = Playback(actions=[1, 3], rewards=[4.0, -1.0])
    names = action_names("breakout", AtariProtocol())
    assert module._captions(cell, seen, 60.0, [0, 1, 2]) == [
        f"step 0: {names[1]}\nreward so far 0, to go 60",
        f"step 1: {names[3]}\nreward so far 4, to go 59",
        "step 2: the end\nreward so far 3, to go 60",
    ]


def test_a_robot_is_drawn_where_it_cannot_be_rendered(
    gym: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_rendered", lambda *_: None)
    results, record = gym
    target = record.scores.last.targets[0]
    path = results / "records" / f"{record.key}.json"
    lines = watch(Request(str(path), Path("none"), episode=2, out=tmp_path, frames=5, video=False))
    said = "\n".join(lines)
    assert f"return {target.returns[2]:g} in {target.lengths[2]} steps; this episode is the same" in said
    assert "drawn from the positions" in said
    (strip,) = tmp_path.iterdir()
    pixels = np.asarray(Image.open(strip))
    assert pixels.shape[1] == 3 * (pictures.WIDTH + 8) + 8
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    cut = watch(Request(str(path), Path("none"), out=tmp_path, frames=2, video=False, max_steps=3))
    assert "in 3 steps" in cut[1]
    assert "truncated by --max-steps" in cut[2]


def test_another_return_than_the_records_is_reported(gym: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_rendered", lambda *_: None)
    results, record = gym
    content = json.loads((results / "records" / f"{record.key}.json").read_text())
    score = content["scores"]["last"]["targets"][0]
    assert score["returns"][0] != score["returns"][1]
    score["returns"][:2] = score["returns"][1::-1]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(content))
    lines = watch(Request(str(changed), results, out=tmp_path / "out", frames=1, video=False))
    assert "NOT the same" in lines[2]
    assert f"the record says: return {score['returns'][0]:g} in" in lines[2]


def _weights(results: Path, record: Record) -> Path:
    return results / "checkpoints" / record.key / "last.safetensors"


def test_a_wrong_request_is_refused_in_one_line(gym: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, record = gym
    path = results / "records" / f"{record.key}.json"
    out = tmp_path / "out"

    def refused(match: str, name: Path = path, **options: Any) -> None:
        with pytest.raises(UserError, match=match) as caught:
            watch(Request(str(name), tmp_path, **({"out": out} | options)))
        assert "\n" not in str(caught.value)

    refused("has episodes 0 to 2", episode=3)
    refused("has episodes 0 to 2", episode=-1)
    refused("was evaluated with ", target=-5.0)
    refused("give at least 1", frames=0)
    out.write_text("in the way")
    refused("cannot write to .*--out")
    out.unlink()

    loose = tmp_path / "loose.json"
    content = json.loads(path.read_text())
    loose.write_text(json.dumps(content))
    refused("no weights .*last.safetensors", loose)
    content["provenance"]["config"]["train"]["lr"] = 0.5
    loose.write_text(json.dumps(content))
    refused(f"{record.key}: its settings make the cell", loose)

    cell = cell_of(record.provenance.config)
    agent = load_agent(cell, _weights(results, record), head_of(record))
    with torch.no_grad():
        agent.head.project.bias.add_(1)  # type: ignore[operator, union-attr]
    loose.write_text(path.read_text())
    save_weights(_weights(tmp_path, record), agent.state_dict(), {"cell": cell.key})
    refused("are not those that the record was made with", loose)
    assert not out.exists()


def test_a_failed_cell_cannot_be_watched(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path: Path, monkeypatch: Any
) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr(Agent, "loss", fail)
    record = cells.run_cell(tiny_cell("mlp"), tmp_path, "cpu")
    with pytest.raises(UserError, match=r"failed \(no luck\); there is nothing to watch"):
        watch(Request(record.key, tmp_path))


def test_command_writes_the_strip(
    bench: Callable[..., Any],
    gym: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results, record = gym
    done = bench("watch", "hopper", "--results", results, "--frames", 2, "--no-video", "--max-steps", 2, "--out", "w")
    assert done.code == 0, done.err
    assert [p.name for p in (tmp_path / "w").iterdir()] == [f"{record.key}-t{record.protocol.targets[0]:g}-e0.png"]
    assert "pictures: " in done.out
    monkeypatch.setattr(sys, "argv", ["bench", "watch", "pong", "--results", str(results)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("bench: no record 'pong'")
    assert err.count("\n") == 1
