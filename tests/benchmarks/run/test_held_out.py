"""``data.episodes`` and ``data.held_out``: training on a part of the episodes, and the loss on those it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planning import cells as planned
from torch.nn import functional as F

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.split import split
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import SAMPLERS
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell, DataConfig, EvalConfig, ModelConfig, TrainConfig
from backbench.benchmarks.replay.compare import compare
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.run.cell import check_data, run_cell
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.held_out import held_out_loss
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record, load_record
from backbench.leaderboard.record.identity import config_digest
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import doubts

CPU = torch.device("cpu")
Build = Callable[..., Cell]
WORDS = ["data.episodes=30", "data.held_out=20", "train.steps=3", "train.warmup=0", "eval.episodes=2"]


def memory_cell(*overrides: str, seed: int = 0, task: str = "copy-12") -> Cell:
    (made,) = planned(["transformer"], "memory", "smoke", [seed], [task], overrides=[*WORDS, *overrides])
    sources.make_all([made.task.data_id], 1, lambda name: None)
    return made


def data_of(cell: Cell) -> Trajectories:
    return store.read(cell.task.data_id)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cell, Record]:
    cell, results = memory_cell(), tmp_path_factory.mktemp("results")
    return results, cell, run_cell(cell, results, "cpu")


def test_the_record_has_the_mean_loss_of_the_last_checkpoint_over_all_held_out_steps(
    made: tuple[Path, Cell, Record],
) -> None:
    results, cell, record = made
    assert record.scores is not None
    assert record.scores.held_out is not None
    data, found = data_of(cell), record.scores.held_out
    _, held = split(data, 20, 30, 0)
    assert (found.episodes, found.steps) == (20, 20 * 24)
    path = next((results / "checkpoints" / cell.key).rglob("last.safetensors"))
    agent = load_agent(cell, path, head_of(record))
    losses = []
    for e in held:  # one episode at a time, step by step
        own = slice(data.offsets[e], data.offsets[e + 1])
        states, actions = (torch.from_numpy(np.asarray(a[own]))[None] for a in (data.states, data.actions))
        with torch.no_grad():
            output = agent(torch.zeros(1, 24), states, actions, torch.arange(24)[None])
        losses += [float(F.cross_entropy(o[None], a[None])) for o, a in zip(output[0], actions[0], strict=True)]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_record_with_a_held_out_loss_reads_as_it_was_written(made: tuple[Path, Cell, Record], tmp_path: Path) -> None:
    _, cell, record = made
    path = tmp_path / f"{record.key}.json"
    dump_record(record, path)
    assert load_record(path) == record
    assert doubts(record) == []
    assert cell_of(record.provenance.config) == cell


def test_a_cell_without_these_settings_keeps_its_key_and_its_text(tiny_cell: Build) -> None:
    config = tiny_cell().resolved()
    assert (config["data"].pop("episodes"), config["data"].pop("held_out")) == (0, 0)
    assert tiny_cell().key.endswith(config_digest(config))
    other = {tiny_cell(data__episodes=4).key, tiny_cell(data__held_out=4).key, tiny_cell().key}
    assert len(other) == 3


def test_scores_without_a_held_out_loss_have_the_text_that_they_had(made: tuple[Path, Cell, Record]) -> None:
    scores = made[2].scores
    assert scores is not None
    assert "held_out" in scores.model_dump()
    assert set(scores.model_copy(update={"held_out": None}).model_dump()) == {"last", "best"}


def test_training_starts_windows_in_its_own_episodes_alone(
    tiny_cell: Build, hopper_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tiny_cell(data__episodes=3, data__held_out=2, seed=5)
    data, seen = data_of(cell), set()
    sampler = SAMPLERS["uniform"]
    batch = sampler.batch

    def watched(self: Any, step: int) -> Any:
        seen.update((data.offsets.searchsorted(self.starts(step).numpy(), side="right") - 1).tolist())
        return batch(self, step)

    monkeypatch.setattr(sampler, "batch", watched)
    record = run_cell(cell, tmp_path, "cpu")
    assert seen == set(split(data, 2, 3, 5)[0].tolist())
    assert len(seen) == 3
    assert record.scores is not None
    assert record.scores.held_out is not None
    assert record.scores.held_out.episodes == 2


def test_vectors_are_measured_without_dropout_and_the_same_in_batches_of_any_size(
    tiny_cell: Build, hopper_store: Path
) -> None:
    cell = tiny_cell(model__dropout=0.5)
    data = data_of(cell)
    _, held = split(data, 3, 0, 0)
    agent = make_agent(cell, data).train()
    found = [held_out_loss(agent, SAMPLERS["uniform"](data, 4, size, 0, CPU), held) for size in (1, 7, 64)]
    assert agent.training
    assert {one.steps for one in found} == {int(data.lengths[held].sum())}
    assert [one.loss for one in found] == pytest.approx([found[0].loss] * 3, rel=1e-6)


def test_pixels_are_measured_too(tmp_path: Path) -> None:
    rng, name = np.random.default_rng(0), "backbench/breakout/replay-61-v1"
    episodes = [
        Episode(rng.integers(0, 255, (n + 1, 84, 84), dtype=np.uint8), rng.integers(0, 4, n), np.zeros(n), False, n)
        for n in (9, 12, 15)
    ]
    framestore.write(name, iter(episodes), 4, {"algorithm": "dice", "description": "random frames"})
    cell = Cell(
        "transformer", replace(suites.resolve("atari", "breakout", "embedded"), data_id=name), "smoke",
        model=ModelConfig(d_model=16, n_layers=1, context=4), data=DataConfig(episodes=1, held_out=1),
        train=TrainConfig(steps=2, batch_size=4, warmup=1), eval=EvalConfig(episodes=2, max_steps=4),
        atari=AtariProtocol(),
    )  # fmt: skip
    record = run_cell(cell, tmp_path, "cpu")
    assert record.scores is not None, record.failure
    assert record.scores.held_out is not None
    _, (held,) = split(store.read(name), 1, 1, 0)
    assert record.scores.held_out.steps == (9, 12, 15)[held]


def test_a_stopped_measurement_resumes_to_the_same_bits(tiny_cell: Build, hopper_store: Path, tmp_path: Path) -> None:
    cell = tiny_cell(data__held_out=3)
    data = data_of(cell)
    _, held = split(data, 3, 0, 0)
    agent = make_agent(cell, data)
    with pytest.raises(Interrupted):
        held_out_loss(agent, SAMPLERS["uniform"](data, 4, 8, 0, CPU), held, lambda: True)
    asked: list[int] = []

    def late() -> bool:
        asked.append(1)
        return len(asked) > calls - 2

    calls = 10**9
    whole = run_cell(cell, tmp_path / "whole", "cpu", should_stop=late)
    calls, asked[:] = len(asked), []
    with pytest.raises(Interrupted):
        run_cell(cell, tmp_path / "stopped", "cpu", should_stop=late)
    again = run_cell(cell, tmp_path / "stopped", "cpu")
    assert again.scores == whole.scores


def test_a_loss_that_is_not_finite_fails_the_cell(tiny_cell: Build, hopper_store: Path) -> None:
    cell = tiny_cell()
    data = data_of(cell)
    agent = make_agent(cell, data)
    with torch.no_grad():
        agent.head.project.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="held-out"):
        held_out_loss(agent, SAMPLERS["uniform"](data, 4, 8, 0, CPU), np.array([0]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"episodes": -1}, "data.episodes=-1: give 0 or more"),
        ({"held_out": -2}, "data.held_out=-2: give 0 or more"),
        ({"episodes": 5, "top": 0.5}, "data.episodes=5: data.top=0.5 chooses episodes too; give one"),
        ({"held_out": 5, "top": 0.5}, "data.held_out=5: data.top=0.5 chooses episodes too; give one"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        DataConfig(**settings)
    assert str(error.value) == said


def test_more_episodes_than_the_data_set_has_are_refused_before_training(
    tiny_cell: Build, hopper_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"data\.episodes=1,000,000 needs 1,000,000 episodes; data set .* has \d+"):
        run_cell(tiny_cell(data__episodes=10**6), tmp_path, "cpu")
    assert list(tmp_path.iterdir()) == []


def test_shifted_windows_need_their_steps_in_the_episodes_of_training(tiny_cell: Build, hopper_store: Path) -> None:
    cell = tiny_cell(data__episodes=1, data__windows="shifted", model__context=1000)
    with pytest.raises(UserError, match=r"data\.windows=shifted: data set .* needs more than 3,000"):
        check_data(cell, data_of(cell))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scores: scores.pop("held_out"), "scores.held_out: of 0 episodes, and data.held_out is 20"),
        (lambda scores: scores["held_out"].update(episodes=19), "scores.held_out: of 19 episodes, and"),
        (lambda scores: scores["held_out"].update(steps=19), "scores.held_out.steps: 19 in 20 episodes"),
    ],
)
def test_a_held_out_loss_that_the_settings_do_not_make_is_doubted(
    made: tuple[Path, Cell, Record], change: Callable[[Any], Any], said: str
) -> None:
    content = json.loads(made[2].model_dump_json())
    change(content["scores"])
    edited = Record.model_validate_json(json.dumps(content))
    assert any(said in doubt for doubt in doubts(edited))


def test_another_held_out_loss_of_the_same_weights_is_another_run(made: tuple[Path, Cell, Record]) -> None:
    record = made[2]
    for factor, verdict in ((1.0, "equal bits"), (1 + 1e-6, "equal score"), (1.01, "differs")):
        content = json.loads(record.model_dump_json())
        content["scores"]["held_out"]["loss"] *= factor
        found = compare(record, Record.model_validate_json(json.dumps(content)))
        assert found.verdict == verdict
        assert any(line.startswith("scores.held_out: ") for line in found.lines) == (factor > 1)
