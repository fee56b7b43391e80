"""The Atari suite, from its tables to its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planning import cells

from backbench.agents import encoders, tokenizer
from backbench.benchmarks.data import store
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.kind import AtariBatch
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import settings, suites
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell, EvalConfig, ModelConfig, TrainConfig
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.run import cell as cells_
from backbench.benchmarks.run.evaluate import Interrupted, Play, TargetResult, evaluate
from backbench.errors import UserError
from backbench.leaderboard.record.files import load_record
from backbench.leaderboard.record.identity import config_digest
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import contradictions, doubts

NAME = "backbench/breakout/replay-60-v1"
CPU = torch.device("cpu")


def random_play(lengths: tuple[int, ...] = (25, 60)) -> Iterator[Episode]:
    emulator = Emulator("breakout")
    for number, steps in enumerate(lengths):
        rng = np.random.default_rng(number)
        emulator.reset(5)
        frames, actions, rewards = [emulator.frame()], rng.integers(0, 4, steps), []
        for action in actions:
            rewards.append(3 * emulator.step(int(action))[0])
            frames.append(emulator.frame())
        rewards[7] = 4.0  # some reward there is in any case, and one that clipping changes
        yield Episode(np.stack(frames), actions, np.array(rewards), False, number)


@pytest.fixture(scope="module", autouse=True)
def _store(_away_from_home: None) -> None:
    framestore.write(NAME, random_play(), 4, {"algorithm": "dice", "description": "random play"})


def tiny(**changes: Any) -> Cell:
    content: dict[str, Any] = {
        "task": replace(suites.resolve("atari", "breakout", "embedded"), data_id=NAME),
        "model": ModelConfig(d_model=16, n_layers=1, context=4),
        "train": TrainConfig(steps=4, batch_size=4, warmup=1, log_every=2, evaluations=2),
        "eval": EvalConfig(episodes=2, max_steps=12),
        "atari": AtariProtocol(),
    }
    return Cell("transformer", preset="smoke", **{**content, **changes})


def test_preset_paper_has_the_published_settings() -> None:
    made = {c.task.name: c for c in cells(["transformer"], "atari", "paper", [0])}
    assert list(made) == ["breakout", "qbert", "pong", "seaquest"]
    for name, c in made.items():
        k, batch = (50, 512) if name == "pong" else (30, 128)
        assert (c.model.context, c.train.batch_size) == (k, batch)
        windows = 500_000 - 3 * k
        assert c.train.steps == 5 * -(-windows // batch)  # five epochs
        assert c.train.schedule_steps == round(6 * windows / batch)
        assert (c.data.windows, c.eval.timestep, c.model.init) == ("shifted", "current", "mingpt")
        assert (c.model.n_layers, c.model.d_model, c.options["n_heads"], c.options["activation"]) == (6, 128, 8, "gelu")
        assert (c.model.timestep, c.model.embedding, c.model.encoder) == ("window", "tanh", "nature")
        assert (c.task.data_id, c.task.rewards) == (f"dqn-replay/{name}/1pct-v0", "mixed")
        assert (c.max_steps, c.eval.episodes, c.eval.temperature, c.atari) == (27_000, 10, 1.0, AtariProtocol())
    assert [c.targets for c in made.values()] == [(90.0,), (14000.0,), (20.0,), (1150.0,)]
    (mamba,) = cells(["mamba"], "atari", "paper", [0], ["pong"])
    assert "n_heads" not in mamba.options


def test_the_users_override_beats_the_presets_special_ones() -> None:
    (pong,) = cells(
        ["transformer"], "atari", "paper", [0], ["pong"], overrides=["model.context=7", "backbone.n_heads=2"]
    )
    assert (pong.model.context, pong.options["n_heads"], pong.train.batch_size) == (7, 2, 512)


def test_a_convention_makes_another_cell_and_is_for_atari_only() -> None:
    (plain,) = cells(["mlp"], "atari", "smoke", [0], ["qbert"])
    (sticky,) = cells(["mlp"], "atari", "smoke", [0], ["qbert"], overrides=["atari.sticky=0.25"])
    assert sticky.atari == AtariProtocol(sticky=0.25)
    assert sticky.key != plain.key
    (gym,) = cells(["mlp"], "d4rl", "smoke", [0], ["hopper-medium"])
    assert gym.atari is None
    assert gym.task.rewards == "raw"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["atari.sticky=2"], "atari.sticky=2"),
        (["atari.noop_max=0"], "atari.noop_max=0"),
        (["atari.stack=0"], "atari.stack=0: give at least 1"),
        (["atari.stack=17"], "atari.stack=17: give at most 16"),
        (["model.encoder=vgg"], "model.encoder=vgg: give one of light, nature"),
        (["data.rewards=clip"], "data.rewards=clip: give one of auto, raw, clipped, mixed"),
        (["model.timestep=window", "eval.acting=recurrent"], "eval.acting=recurrent needs model.timestep=step"),
        (["eval.temperature=-1"], "eval.temperature=-1.0: give 0 or more"),
        (["data.source=dqn-replay", "data.rewards=raw"], "no targets for data.rewards=raw; give one of clipped, mixed"),
    ],
)
def test_settings_out_of_range_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cells(["mlp"], "atari", "smoke", [0], ["breakout"], overrides=overrides)


def test_gym_tasks_refuse_clipped_rewards() -> None:
    with pytest.raises(UserError, match=r"hopper-medium.*no targets for data\.rewards=clipped; give one of raw"):
        cells(["mlp"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["data.rewards=clipped"])


@pytest.mark.parametrize("override", ["atari.sticky=0.25", "model.encoder=nature", "eval.temperature=0"])
def test_gym_tasks_refuse_settings_of_atari(override: str) -> None:
    with pytest.raises(UserError, match=f"override '{override}': suite 'd4rl' has no Atari games"):
        cells(["mlp"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=[override])


def test_another_set_of_actions_is_refused(tmp_path: Path) -> None:
    """Action 2 is RIGHT in Breakout's own set, and UP in the full one."""
    with pytest.raises(UserError, match=r"has 4 actions and ALE/Breakout-v5 has 18 with atari\.full_actions=true"):
        cells_.run_cell(tiny(atari=AtariProtocol(full_actions=True)), tmp_path, "cpu")
    assert list(tmp_path.rglob("*.json")) == []


def test_choices_of_settings_are_those_of_the_agent() -> None:
    """Settings are read without torch, so the names are in two places."""
    assert sorted(settings.ENCODERS) == sorted(encoders.CONVOLUTIONS)
    assert (settings.TIMESTEPS, settings.EMBEDDINGS) == (tokenizer.TIMESTEPS, tokenizer.EMBEDDINGS)


def test_missing_published_data_are_one_line_of_error(bench: Callable[..., Any]) -> None:
    answer = bench(
        "run", "--backbone", "gloma", "--suite", "atari", "--preset", "paper", "--task", "pong", "--track", "none"
    )
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert "bench data pull dqn-replay pong" in answer.err


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, _store: None) -> tuple[Path, Cell, Record]:
    results = tmp_path_factory.mktemp("results")
    cell = tiny()
    return results, cell, cells_.run_cell(cell, results, "cpu")


def test_the_record_contains_the_conventions_and_the_head(record: tuple[Path, Cell, Record]) -> None:
    results, cell, made = record
    assert made.status == "done", made.failure
    assert load_record(cell.record_path(results)) == made
    assert made.protocol.environment == {
        "frame_skip": 4, "max_pool": True, "noop_max": 30, "fire_reset": False, "sticky": 0.0,
        "episodic_life": False, "full_actions": False, "max_frames": 108_000,
    }  # fmt: skip
    assert made.protocol.head == "categorical"
    assert (made.protocol.sampling, made.protocol.returns_to_go) == ("sampled at T=1", "clipped")
    assert (made.protocol.normaliser, made.identity.environment) == ("dt-gamer", "ALE/Breakout-v5")
    assert made.identity.model.extra == {"timestep": "step", "embedding": "norm", "encoder": "light"}
    assert made.identity.data is not None
    assert made.identity.data.rewards == "raw"
    assert "ale-py" in made.provenance.packages
    assert made.scores is not None
    score = made.scores.last.targets[0]
    assert score.normalised_mean == pytest.approx(100 * (score.raw_mean - 2) / 28)


def test_the_same_cell_has_the_same_bits(record: tuple[Path, Cell, Record], tmp_path: Path) -> None:
    _, cell, made = record
    again = cells_.run_cell(cell, tmp_path, "cpu")
    assert again.scores == made.scores
    assert again.provenance.weights_sha256 == made.provenance.weights_sha256


def test_a_stopped_cell_resumes_to_the_same_bits(record: tuple[Path, Cell, Record], tmp_path: Path) -> None:
    _, cell, made = record
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        cells_.run_cell(cell, tmp_path, "cpu", should_stop=lambda: next(asked))
    again = cells_.run_cell(cell, tmp_path, "cpu")
    assert again.provenance.weights_sha256 == made.provenance.weights_sha256
    assert again.scores == made.scores


def test_four_frames_are_the_same_cell_as_before_the_setting(record: tuple[Path, Cell, Record]) -> None:
    _, cell, made = record
    config = json.loads(json.dumps(cell.resolved()))
    assert config["atari"].pop("stack") == 4
    assert config_digest(config) == cell.key.rpartition(".")[2]
    assert cell_of(config) == cell
    assert list(contradictions(made)) == []


def test_a_cell_of_single_frames_runs_and_its_agent_is_loaded(tmp_path: Path) -> None:
    cell = tiny(atari=AtariProtocol(stack=1))
    assert cell.key != tiny().key
    made = cells_.run_cell(cell, tmp_path, "cpu")
    assert made.status == "done", made.failure
    assert made.protocol.environment["stack"] == 1
    assert list(contradictions(made)) == []
    agent = load_agent(cell, cell.checkpoint_folder(tmp_path) / "last.safetensors", head_of(made))
    encoder: Any = agent.tokenizer.encoder
    assert encoder.convolutions[0].in_channels == 1
    assert made.scores is not None
    again = evaluate(agent, Play.of(cell, made.protocol.targets), CPU)
    assert [one.returns for one in again] == [one.returns for one in made.scores.last.targets]


def test_the_suite_of_single_frames_is_that_of_atari_with_another_stack(tmp_path: Path) -> None:
    four, one = (cells(["mlp"], suite, "smoke", [0]) for suite in ("atari", "atari-1frame"))
    for preset in ("quick", "paper"):
        assert {cell.atari for cell in cells(["mlp"], "atari-1frame", preset, [0])} == {AtariProtocol(stack=1)}
    assert [(c.model, c.train, c.eval) for c in one] == [(c.model, c.train, c.eval) for c in four]
    assert [replace(c.task, suite="atari") for c in one] == [c.task for c in four]
    assert {c.variant for c in one} == {""}
    (two,) = cells(["mlp"], "atari-1frame", "smoke", [0], ["pong"], overrides=["atari.stack=2"])
    assert (two.atari, two.variant) == (AtariProtocol(stack=2), "atari.stack=2")
    cell = replace(one[0], task=replace(one[0].task, data_id=NAME))
    made = cells_.run_cell(cell, tmp_path, "cpu")
    assert made.status == "done", made.failure
    assert (made.identity.suite, made.protocol.environment["stack"]) == ("atari-1frame", 1)
    assert list(doubts(made)) == []


def test_the_record_says_whether_the_datas_rewards_are_clipped(tmp_path: Path) -> None:
    name = "dqn-replay/breakout/small-v0"
    clipped = (replace(e, rewards=np.clip(e.rewards, -1, 1)) for e in random_play())
    framestore.write(name, clipped, 4, {"rewards": "clipped"})
    task = replace(suites.resolve("atari", "breakout", "dqn-replay", "mixed"), data_id=name)
    made = cells_.run_cell(tiny(task=task), tmp_path, "cpu")
    assert made.identity.data is not None
    assert made.identity.data.rewards == "clipped"
    assert made.protocol.returns_to_go == "mixed"


def play(cell: Cell, clip: bool = True, **options: Any) -> list[TargetResult]:
    agent = make_agent(cell, store.read(cell.task.data_id))
    with torch.no_grad():
        agent.head.project.weight.mul_(5)  # type: ignore[union-attr, operator]
    how: dict[str, Any] = {"targets": (40.0, 1.0), "episodes": 3, "max_steps": 400} | options
    how = {"make": partial(AtariBatch, "breakout")} | how
    return evaluate(agent, Play(acting="window", context=4, seed=5, clip_rewards=clip, **how), CPU)


def test_an_episode_does_not_depend_on_the_others_in_its_batch() -> None:
    """Each has its own random numbers: what another does, or when it ends, changes nothing."""
    both = play(tiny())
    assert both == play(tiny())
    assert len({n for r in both for n in r.lengths}) > 1, "all end together: the test sees nothing"
    alone = [play(tiny(), targets=(target,))[0] for target in (40.0, 1.0)]
    assert [r.lengths for r in alone] == [r.lengths for r in both]
    assert play(tiny(), episodes=2)[0].returns == both[0].returns[:2]


def test_the_target_falls_by_clipped_or_by_raw_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in training. Scores are raw in any case."""
    from backbench.agents.acting import WindowActor

    seen: list[float] = []
    original = WindowActor.update

    def update(self: WindowActor, rewards: torch.Tensor) -> None:
        seen.extend(rewards.tolist())
        original(self, rewards)

    class Paying:
        def __init__(self, *_: object) -> None: ...

        def reset(self, seeds: Any) -> Any:
            return np.zeros((len(seeds), 4, 84, 84), dtype=np.uint8)

        def step(self, numbers: Any, actions: Any) -> Any:
            n = len(numbers)
            return np.zeros((n, 4, 84, 84), np.uint8), np.full(n, 7.0), np.zeros(n, dtype=bool)

        def close(self) -> None: ...

    monkeypatch.setattr(WindowActor, "update", update)
    for clip, expected in ((True, 1.0), (False, 7.0)):
        seen.clear()
        results = play(tiny(), clip, max_steps=3, make=Paying)
        assert set(seen) == {expected}
        assert results[0].returns == (21.0,) * 3


def test_the_board_gives_all_three_scales(record: tuple[Path, Cell, Record]) -> None:
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.views.text import to_markdown

    made = record[2]
    text = to_markdown(build_board([made]))
    assert made.scores is not None
    raw = made.scores.last.targets[0].raw_mean
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert f"{100 * (raw - 2) / 28:.1f}" in lines["breakout"]
    assert f" {raw:.1f} " in lines["breakout, raw"]
    assert f" {100 * (raw - 1.7) / 28.8:.1f} " in lines["breakout, human"]
    assert "lacks 3 of 4 tasks" in text
    assert "57-game" in text


SUITE = f"""
pixels: true
rewards: clipped
return_scale: 1
normaliser: atari-human
tasks:
  breakout:
    sources:
      local: {{env_id: ALE/Breakout-v5, data_id: {NAME}}}
"""


def test_a_users_suite_of_atari_games_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE)
    overrides = ["train.steps=2", "eval.max_steps=5", "atari.sticky=0.25"]
    (cell,) = cells(["mlp"], str(tmp_path / "mine.yaml"), "smoke", [0], source="local", overrides=overrides)
    (ours,) = cells(["mlp"], "atari", "smoke", [0], ["breakout"], overrides=overrides)
    assert (cell.model, cell.train, cell.eval, cell.atari) == (ours.model, ours.train, ours.eval, ours.atari)
    record = cells_.run_cell(cell, tmp_path / "results", "cpu")
    assert record.status == "done", record.failure
    assert record.protocol.environment["sticky"] == 0.25
    assert (record.identity.suite, record.identity.suite_tasks) == ("mine", ("breakout",))
    assert record.identity.model.extra["encoder"] == "light"


def test_smoke_of_the_complete_command(bench: Callable[..., Any], tmp_path: Path) -> None:
    """It generates data, trains, evaluates and records, without a network. The second time nothing is left to do."""
    words = (
        "run", "--backbone", "mlp", "--suite", "atari", "--preset", "smoke", "--task", "breakout",
        "--track", "none", "--jobs", "1", "data.steps=30", "eval.max_steps=10",
    )  # fmt: skip
    answer = bench(*words, MINARI_DATASETS_PATH=str(tmp_path / "store"), timeout=240)
    assert answer.code == 0, answer.err
    records = [json.loads(p.read_text()) for p in (tmp_path / "results" / "records").glob("*.json")]
    assert {r["identity"]["task"] for r in records} == {"breakout"}
    assert {r["status"] for r in records} == {"done"}
    shown = bench("data", "show", "backbench/breakout/replay-30-v1", MINARI_DATASETS_PATH=str(tmp_path / "store"))
    assert shown.code == 0, shown.err
    assert "4 actions" in shown.out
    assert "states (4, 84, 84)" in shown.out
    again = bench(*words, MINARI_DATASETS_PATH=str(tmp_path / "store"))
    assert "started" not in again.out
