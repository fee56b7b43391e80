"""Cells with filtered observations: data and environment agree, and the record says what the agent saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT
from planning import cells as planned

from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.environments.observe import DATA, Observe
from backbench.benchmarks.environments.vector import GymBatch
from backbench.benchmarks.plan.assemble import seen, still_columns
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.replay.watch import replay
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.evaluate import Play, evaluate
from backbench.errors import UserError
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.board.notes import notes_of
from backbench.leaderboard.record.files import dump_record, load_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import contradictions

Build = Callable[..., Cell]
BOTH = Observe(keep=(4, 0), missing=0.5)


def with_filter(cell: Cell, observe: Observe | None) -> Cell:
    return replace(cell, task=replace(cell.task, observe=observe))


def recorded(steps: int, seeds: list[int]) -> tuple[Trajectories, list[np.ndarray]]:
    """Episodes of Hopper as a data set, and what the environment gave with positions alone for the same actions."""
    full, part = GymBatch("Hopper-v5", len(seeds)), GymBatch("Hopper-v5", len(seeds), observe=Observe(tuple(range(5))))
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, len(seeds), 3)).astype(np.float32)
    states, positions = [full.reset(seeds)], [part.reset(seeds)]
    for action in actions:
        for batch, found in ((full, states), (part, positions)):
            found.append(batch.step(range(len(seeds)), action)[0])
    episodes = [
        Episode(np.stack(states)[:, number], actions[:, number], np.ones(steps), False) for number in range(len(seeds))
    ]
    return Trajectories.from_episodes(episodes), [np.stack(positions)[:-1, number] for number in range(len(seeds))]


def test_filtered_data_are_what_the_filtered_environment_gives() -> None:
    data, positions = recorded(9, [3, 4])
    filtered = data.observed(Observe(tuple(range(5))))
    assert np.array_equal(filtered.states, np.concatenate(positions).astype(np.float32))
    assert (filtered.digest, filtered.state_shape) == (data.digest, (5,))
    for name in ("actions", "rewards", "terminated", "offsets"):
        assert getattr(filtered, name) is getattr(data, name)


def test_gaps_of_the_data_depend_on_the_episode_s_index_and_the_step() -> None:
    data, _ = recorded(40, [3, 3, 4])
    filtered = data.observed(BOTH)
    assert np.array_equal(filtered.states, data.observed(BOTH).states)
    assert filtered.state_shape == (3,)
    for index, (first, last) in enumerate(zip(data.offsets[:-1], data.offsets[1:], strict=True)):
        expected = BOTH.episode(DATA, index)(data.states[first:last])
        assert np.array_equal(filtered.states[first:last], expected)
    assert not np.array_equal(filtered.states[:40], filtered.states[40:80]), "equal episodes have gaps of their own"
    mean, scale = filtered.state_statistics()
    assert np.allclose(mean, filtered.states.mean(0), atol=1e-6)
    assert mean[-1] == pytest.approx((filtered.states[:, -1] == 1).mean())
    assert scale[-1] > 0.4


def test_an_index_outside_the_data_is_refused() -> None:
    data, _ = recorded(3, [1])
    with pytest.raises(UserError, match=r"observe.keep has 11, and an observation has 11 numbers: give 0 to 10"):
        data.observed(Observe(keep=(11,)))


def test_still_columns_are_named_by_their_index_in_the_data(
    tiny_cell: Build, hopper_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = recorded(20, [1])
    data.states[:, 3] = 2.0
    monkeypatch.setattr(store, "read", lambda name: data)
    cell = tiny_cell("mlp")
    assert "state column 3 does" in still_columns([with_filter(cell, Observe(keep=(5, 3)))])[0]
    assert still_columns([with_filter(cell, Observe(keep=(5, 2)))]) == []
    assert still_columns([with_filter(cell, Observe(missing=0.5))]) == [], "it is 2 or, where it is missing, 0"


@pytest.fixture(scope="module")
def hidden(tiny_cell: Build, hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell, Record]:
    """A cell whose agent sees two numbers of half of the states."""
    cell, results = with_filter(tiny_cell("gloma"), BOTH), tmp_path_factory.mktemp("hidden")
    return results, cell, run_cell(cell, results, "cpu")


def test_the_record_says_what_the_agent_saw(hidden: tuple[Path, Cell, Record], tmp_path: Path) -> None:
    _, cell, record = hidden
    assert record.status == "done", record.failure
    said = {"keep": [4, 0], "missing": 0.5}
    assert record.protocol.environment == {"observe": said}
    assert record.provenance.config["task"]["observe"] == said
    assert record.identity.data is not None
    assert record.identity.data.sha256 == store.read(cell.task.data_id).digest, "of the unfiltered set"
    assert list(contradictions(record)) == []
    path = tmp_path / f"{record.key}.json"
    dump_record(record, path)
    again = load_record(path)
    assert again == record
    assert cell_of(again.provenance.config) == cell
    assert cell_to_run(again, path) == cell


def test_a_record_that_hides_its_filter_is_found(hidden: tuple[Path, Cell, Record]) -> None:
    content = hidden[2].model_dump(mode="json")
    content["protocol"]["environment"] = {}
    assert "protocol.environment: {}, and {'observe':" in next(contradictions(Record.model_validate(content)))


def test_the_agent_is_loaded_and_plays_the_same_episodes(hidden: tuple[Path, Cell, Record]) -> None:
    results, cell, record = hidden
    assert record.scores is not None
    torch.use_deterministic_algorithms(True)
    agent = load_agent(cell, cell.checkpoint_folder(results) / "last.safetensors", head_of(record))
    encoder: Any = agent.tokenizer.encoder
    assert encoder.mean.shape == (3,)
    data = seen(cell, store.read(cell.task.data_id))
    assert np.array_equal(encoder.mean.numpy(), data.state_statistics()[0])
    scores = record.scores.last.targets
    play = Play.of(cell, record.protocol.targets)
    assert [one.returns for one in evaluate(agent, play, torch.device("cpu"))] == [one.returns for one in scores]
    playback, returned, length = replay(cell, agent, scores, (1, 1), cell.max_steps)
    assert (returned, length) == (scores[1].returns[1], scores[1].lengths[1])
    assert playback.views[0].shape == (6,), "the camera sees the simulator"


def test_a_filter_is_another_cell_and_another_table(
    hidden: tuple[Path, Cell, Record], tiny_cell: Build, tmp_path: Path
) -> None:
    plain = tiny_cell("gloma")
    keys = {with_filter(plain, one).key for one in (None, BOTH, Observe((0, 4), 0.5), Observe((4, 0)))}
    assert len(keys) == 4
    board = build_board([hidden[2], run_cell(plain, tmp_path, "cpu")])
    assert [len(section.rows) for section in board.sections] == [1, 1]
    assert any('"observe": {"keep": [4, 0], "missing": 0.5}' in reason for reason in board.sections[1].apart)
    said = 'Observations, in data and environment: {"keep": [4, 0], "missing": 0.5}.'
    assert [said in notes_of(section, []) for section in board.sections] == [
        section.rows[0].records == (hidden[2],) for section in board.sections
    ]


def test_cells_from_before_filters_and_stacks_keep_their_keys() -> None:
    published = ROOT / "leaderboard" / "published" / "records"
    paths = sorted(path for suite in ("d4rl", "atari") for path in (published / suite).glob("*.json"))[::9]
    assert len(paths) > 10
    for path in paths:
        record = load_record(path)
        assert "observe" not in record.provenance.config["task"]
        cell = cell_of(record.provenance.config)
        assert (cell.key, cell.task.observe) == (record.key, None)
        assert cell.kind.conventions(cell.environment) == record.protocol.environment


@pytest.mark.parametrize(("suite", "width"), [("d4rl-positions", 5), ("d4rl-missing", 12)])
def test_a_task_of_each_filtered_suite_runs(suite: str, width: int, hopper_store: Path, tmp_path: Path) -> None:
    (cell,) = planned(["mlp"], suite, "smoke", [0], ["hopper-medium"])
    record = run_cell(cell, tmp_path, "cpu")
    assert record.status == "done", record.failure
    assert (record.identity.suite, record.protocol.normaliser) == (suite, "d4rl")
    assert cell.kind.sizes(cell.environment).state_shape == (width,)


@pytest.mark.parametrize("suite", ["d4rl-positions", "d4rl-missing"])
def test_a_filtered_suite_has_the_data_and_targets_of_d4rl(suite: str) -> None:
    for source in ("embedded", "d4rl"):
        both = [planned(["mlp"], name, "quick", [0], source=source) for name in ("d4rl", suite)]
        assert [replace(one.task, suite="d4rl", observe=None) for one in both[1]] == [one.task for one in both[0]]
        kept = {one.task.environment: len(one.task.observe.keep) for one in both[1] if one.task.observe}
        expected = {"halfcheetah": 8, "hopper": 5, "walker2d": 8}
        assert kept == (expected if suite == "d4rl-positions" else dict.fromkeys(expected, 0))


def test_a_matched_width_counts_the_numbers_that_the_agent_sees(hopper_store: Path) -> None:
    from backbench.benchmarks.plan import match

    (cell,) = planned(["mlp"], "d4rl-positions", "smoke", [0], ["hopper-medium"])
    assert match._shapes(cell).state_shape == (5,)
    elsewhere = replace(cell, task=replace(cell.task, data_id="backbench/hopper/medium-2001-v1"))
    assert match._shapes(elsewhere).state_shape == (5,), "without the data"
