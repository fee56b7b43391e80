"""``eval.lengths``: one training, scored at multiples of its length, in both protocols of acting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planning import cells as planned
from pydantic import ValidationError

from backbench.agents.acting import make_actor
from backbench.benchmarks.data import sources, store
from backbench.benchmarks.environments.vector import make_environment
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay.compare import compare
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.evaluate import Longer, Play, widened
from backbench.errors import UserError
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.board.notes import notes_of
from backbench.leaderboard.record.files import dump_record, load_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.plausible import impossible_returns
from backbench.leaderboard.trust.verify import doubts
from backbench.leaderboard.views.page import build
from backbench.leaderboard.views.tables import to_view
from backbench.leaderboard.views.text import tabulate

FEW = ["eval.episodes=6", "train.steps=2", "train.warmup=0"]


def cell(task: str, *overrides: str) -> Cell:
    (made,) = planned(["transformer"], "memory-length", "smoke", [0], [task], overrides=[*FEW, *overrides])
    return made


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    one, results = cell("repeat-4"), tmp_path_factory.mktemp("results")
    sources.make_all([one.task.data_id], 1, lambda name: None)
    return run_cell(one, results, "cpu")


def test_every_length_is_played_in_both_protocols(record: Record) -> None:
    assert record.scores is not None
    found = [(one.times, one.acting, one.context, one.max_steps, one.lag) for one in record.scores.longer]
    assert found == [(n, acting, 24 * n, 24 * n, 4) for n in (1, 2, 4) for acting in ("window", "recurrent")]
    for one in record.scores.longer:
        assert one.score.lengths == (one.max_steps,) * 6
        assert one.score.target == record.protocol.targets[0]
        assert not one.beyond
    at_length_one = record.scores.longer[1]
    assert at_length_one.acting == record.protocol.acting
    assert at_length_one.score.returns == record.scores.last.targets[0].returns


def test_a_record_with_them_reads_as_it_was_written(record: Record, tmp_path: Path) -> None:
    path = tmp_path / f"{record.key}.json"
    dump_record(record, path)
    assert load_record(path) == record
    assert doubts(record) == []
    assert cell_of(record.provenance.config) == cell("repeat-4")
    bare = record.model_copy(update={"scores": record.scores.model_copy(update={"longer": ()})})  # type: ignore[union-attr]
    assert "longer" not in json.loads(bare.model_dump_json())["scores"]


def test_a_carried_state_keeps_as_much_as_the_longer_window() -> None:
    """At twice the length both protocols see the same, so they decide the same."""
    one = cell("tmaze-24")
    sources.make_all([one.task.data_id], 1, lambda name: None)
    agent = make_agent(one, store.read(one.task.data_id)).eval()
    agent.decide = lambda hidden, uniforms: hidden  # type: ignore[method-assign]
    states = torch.from_numpy(np.random.default_rng(0).normal(size=(48, 3, 4)).astype(np.float32))

    def decisions(acting: str) -> torch.Tensor:
        actor = make_actor(agent, acting, torch.ones(3), 48)
        found = []
        for state in states:
            found.append(actor.act(state))
            actor.update(torch.zeros(3))
        return torch.stack(found)

    window = decisions("window")
    with widened(agent.backbone, 2):
        assert torch.allclose(decisions("recurrent"), window, atol=1e-5)
    forgetful = decisions("recurrent")  # as before: a state of 24 steps
    assert torch.allclose(forgetful[:24], window[:24], atol=1e-5)
    assert not torch.allclose(forgetful[24:], window[24:], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda longer: longer.clear(), "scores.longer: [], and eval.lengths is [1, 2, 4]"),
        (lambda longer: longer.pop(), "and eval.lengths is [1, 2, 4] in provenance.config"),
        (lambda longer: longer[4].update(max_steps=97), "scores.longer.4.max_steps: 97, and 4 times"),
        (lambda longer: longer[1].update(score=longer[3]["score"]), "scores.longer.1.score: is not the headline"),
    ],
)
def test_scores_that_the_settings_do_not_make_are_doubted(record: Record, change: Any, said: str) -> None:
    content: dict[str, Any] = json.loads(record.model_dump_json())
    longer = content["scores"]["longer"]
    longer[3]["score"]["lengths"] = [24] * 6
    change(longer)
    edited = Record.model_validate_json(json.dumps(content))
    assert any(said in doubt for doubt in doubts(edited))


def test_a_scale_of_its_own_is_doubted(record: Record) -> None:
    content: dict[str, Any] = json.loads(record.model_dump_json())
    content["protocol"]["reference"] = [0.0, 1.0]
    for score in (content["scores"]["last"]["targets"][0], *(one["score"] for one in content["scores"]["longer"])):
        score["normalised_mean"] = 100 * score["raw_mean"]
    content["identity"]["data"]["normalised_mean"] = 100 * content["identity"]["data"]["return_mean"]
    for one in content["curve"]["evaluations"]:
        one["normalised"] = 100 * one["raw"]
    edited = Record.model_validate_json(json.dumps(content))
    assert any("repeat-4 of memory-length has (0.25, 1.0)" in doubt for doubt in doubts(edited))


def test_another_return_there_is_another_run(record: Record) -> None:
    content: dict[str, Any] = json.loads(record.model_dump_json())
    score = content["scores"]["longer"][2]["score"]
    score["returns"] = [1.0] * 6
    score |= {"raw_mean": 1.0, "normalised_mean": 100.0}
    edited = Record.model_validate_json(json.dumps(content))
    found = compare(record, edited)
    assert found.verdict == "differs"
    assert any(line.startswith("scores.longer: ") and "100.00 at scores.longer.2" in line for line in found.lines)
    score["returns"] = [1.5, 0.5] * 3
    assert any(
        "scores.longer.2.score.returns.0: 1.5" in line
        for line in impossible_returns(Record.model_validate_json(json.dumps(content)))
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"context": 25}, "another window than its length says"),
        ({"max_steps": 23}, "too long an episode"),
        ({"times": 2, "context": 48}, "is not in order of its lengths, or has one twice"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(record: Record, change: dict[str, int], said: str) -> None:
    content: dict[str, Any] = json.loads(record.model_dump_json())
    content["scores"]["longer"][1] |= change
    if "times" in change:
        content["scores"]["longer"][1]["acting"] = "window"
    with pytest.raises(ValidationError, match=said):
        Record.model_validate_json(json.dumps(content))


def test_every_view_shows_them(record: Record) -> None:
    board = build_board([record])
    (section,) = board.sections
    assert [(one.task, one.times, one.acting) for one in section.rows[0].longer][-1] == ("repeat-4", 4, "window")
    lines = [line[0].main for table in tabulate(board) for block in table.blocks for line in block]
    assert "repeat-4 x4, window" in lines
    assert any(note.startswith("xN: ") for note in notes_of(section, []))
    page = build(to_view(board, [record]))["index.html"]
    assert "Longer episodes than in training" in page


@pytest.mark.parametrize(
    ("task", "lags"), [("tmaze-24", [23, 47, 95]), ("repeat-4", [4] * 3), ("copy-12", [23, 47, 95]), ("count", [6] * 3)]
)
def test_longer_episodes_ask_for_what_the_task_asks_for(task: str, lags: list[int]) -> None:
    one = cell(task)
    evaluations = Longer.all_of(one, (1.0,))
    assert [evaluation.lag for evaluation in evaluations[::2]] == lags
    for times in (1, 2, 4):
        spec = one.stretched(times)
        env = make_environment(spec.env_id, spec.kwargs).unwrapped
        assert env.steps == 24 * times
        assert env.observation_space == make_environment(one.task.env_id, one.task.env_kwargs).observation_space
    scored = Play.of(one, (1.0,))
    assert {(e.play.seed, e.play.episodes) for e in evaluations} == {(scored.seed, scored.episodes)}


def test_what_cannot_be_longer_is_refused() -> None:
    with pytest.raises(UserError, match="task recall-8 has no longer form"):
        planned(["mlp"], "memory", "smoke", [0], ["recall-8"], overrides=["eval.lengths=[2]", "model.timestep=none"])
    with pytest.raises(UserError, match=r"needs model\.timestep=none"):
        cell("parity", "model.timestep=step")
    for wrong in ("[2,1]", "[1,1]", "[0]", "[65]"):
        with pytest.raises(UserError, match="different whole numbers from 1 to 64, in order"):
            cell("parity", f"eval.lengths={wrong}")
