"""Settings that Optuna proposes: the same after a kill, no two alike, and the best is what the board checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import record_factory as factory

from backbench.benchmarks.plan.assemble import make_backbone
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.plan.tune import OPTUNA, Tuning, tuning
from backbench.benchmarks.tune.scores import choose
from backbench.benchmarks.tune.search import FOLDER, ROUND, search
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

optuna = pytest.importorskip("optuna")
COUNT = 10
TARGETS = {"identity": 0.002, "mlp": 0.006}  # the best learning rates
Settings = dict[str, list[tuple[str, ...]]]


def record_for(cell: Cell) -> Record:
    """A record of a cell; a rate above 0.007 diverges."""
    failed = "loss is nan" if cell.train.lr > 0.007 else None
    score = 90 - 1e4 * abs(cell.train.lr - TARGETS[cell.backbone])
    made = factory.make_record(cell.backbone, scores=(score,), seed=cell.seed, variant=cell.variant, failed=failed)
    model = made.identity.model.model_copy(
        update={"context": cell.model.context, "tokens_per_step": len(cell.model.tokens)}
    )
    changed = {"suite": "memory", "task": cell.task.name, "preset": "smoke", "model": model}
    provenance = made.provenance.model_copy(update={"config": cell.resolved()})
    cost = None
    if made.cost is not None:
        backbone = make_backbone(cell)
        cost = made.cost.model_copy(update={"flops_per_token": backbone.flops(backbone.spec.max_length)})
    identity = made.identity.model_copy(update=changed)
    return made.model_copy(update={"key": cell.key, "identity": identity, "provenance": provenance, "cost": cost})


class Grid:
    """Stands in for the cells of a run: records in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: dict[str, Record] = {}
        self.ran: list[list[Cell]] = []
        self.stop_after = 10**6
        for module in ("scores", "search"):
            monkeypatch.setattr(
                f"backbench.benchmarks.tune.{module}.record_of", lambda cell, _: self.records.get(cell.key)
            )

    def run(self, cells: Sequence[Cell]) -> int:
        self.ran.append(list(cells))
        for cell in cells:
            if len(self.records) >= self.stop_after:
                return 130
            self.records[cell.key] = record_for(cell)
        return 0


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Grid:
    return Grid(monkeypatch)


@pytest.fixture
def asked() -> Tuning:
    found = tuning(Request(("identity", "mlp"), "memory", "smoke", ("count",)), COUNT, OPTUNA)
    return dataclasses.replace(found, tasks=found.tasks[:2])


def found_by(asked: Tuning, grid: Grid, folder: Path) -> tuple[Settings, int]:
    return search(asked, folder, grid.run, lambda _: None)


def test_each_backbone_has_so_many_settings_of_its_own(asked: Tuning, grid: Grid, tmp_path: Path) -> None:
    tried, status = found_by(asked, grid, tmp_path)
    assert status == 0
    assert [len(set(settings)) for settings in tried.values()] == [COUNT, COUNT]
    assert tried["identity"] != tried["mlp"]
    assert [len(cells) for cells in grid.ran] == [2 * 2 * ROUND, 2 * 2 * ROUND, 2 * 2 * (COUNT - 2 * ROUND)]
    chosen, trials = choose(asked, tmp_path, tried)
    assert set(chosen) == set(trials) == {"identity", "mlp"}
    for name, target in TARGETS.items():
        rates = [float(setting[0].partition("=")[2]) for setting in tried[name]]
        best = min((rate for rate in rates if rate <= 0.007), key=lambda rate: abs(rate - target))
        assert chosen[name] == (f"train.lr={best:g}",)
    assert {f"tune={asked.tag}" in cell.variant for cell in asked.reported(chosen)} == {True}


def test_a_run_that_was_stopped_goes_on_with_the_same_settings(
    asked: Tuning, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = found_by(asked, grid, tmp_path / "whole")
    again = Grid(monkeypatch)
    for stop in (3, 17, 30):
        again.stop_after = stop
        assert found_by(asked, again, tmp_path / "again")[1] == 130
    again.stop_after = 10**6
    assert found_by(asked, again, tmp_path / "again") == (whole, 0)
    assert again.records.keys() == grid.records.keys()
    cells = len(again.ran)
    assert found_by(asked, again, tmp_path / "again") == (whole, 0)
    assert len(again.ran) == cells, "trials ran again"


def test_a_cell_that_ended_in_an_error_is_no_trial(
    asked: Tuning, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = grid.run
    monkeypatch.setattr(grid, "run", lambda cells: original([cell for cell in cells if cell.backbone != "mlp"]))
    tried, status = found_by(asked, grid, tmp_path)
    assert (list(tried), status) == (["identity"], 0)
    assert list(choose(asked, tmp_path, tried)[0]) == ["identity"]


def test_optuna_reads_the_storage(asked: Tuning, grid: Grid, tmp_path: Path) -> None:
    tried, _ = found_by(asked, grid, tmp_path)
    (path,) = (tmp_path / FOLDER).glob("*.journal")
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.load_study(study_name="mlp", storage=JournalStorage(JournalFileBackend(str(path))))
    told = [trial for trial in study.trials if trial.user_attrs]
    assert [tuple(trial.user_attrs["words"]) for trial in told] == tried["mlp"]
    assert all(trial.state.is_finished() for trial in told)
    diverged = [trial for trial in told if trial.state == optuna.trial.TrialState.PRUNED]
    assert len(diverged) == sum(float(words.partition("=")[2]) > 0.007 for (words,) in tried["mlp"])


def test_a_space_with_too_few_settings_is_one_line(grid: Grid, tmp_path: Path) -> None:
    request = Request(("identity",), "memory", "smoke", ("count",), overrides=("model.n_layers=1,2",))
    found = tuning(request, 3, OPTUNA)
    with pytest.raises(UserError, match="only 2 settings; give a smaller number"):
        found_by(dataclasses.replace(found, tasks=found.tasks[:1]), grid, tmp_path)


def test_a_broken_storage_is_one_line(asked: Tuning, grid: Grid, tmp_path: Path) -> None:
    found_by(asked, grid, tmp_path)
    (path,) = (tmp_path / FOLDER).glob("*.journal")
    path.write_text("{]\n" * 5, encoding="utf-8")
    with pytest.raises(UserError, match="move it away to begin the tuning again") as caught:
        found_by(asked, grid, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", ["train.lr=9", "backbone.x=1", "train.lr=${oc.env:HOME}", "train.lr=nan"])
def test_a_storage_with_settings_outside_of_the_space_is_refused(
    asked: Tuning, grid: Grid, tmp_path: Path, words: str
) -> None:
    tried, _ = found_by(asked, grid, tmp_path)
    (path,) = (tmp_path / FOLDER).glob("*.journal")
    text = path.read_text(encoding="utf-8")
    assert tried["mlp"][0][0] in text
    path.write_text(text.replace(tried["mlp"][0][0], words), encoding="utf-8")
    with pytest.raises(UserError, match="is not of the space; move it away"):
        found_by(asked, grid, tmp_path)


def test_without_optuna_it_is_one_line(
    asked: Tuning, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backbench.benchmarks.tune.search.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .backbench\[tune\]"):
        found_by(asked, grid, tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_a_budget_of_flops_gives_the_cheaper_backbone_more_settings(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(("mlp", "mamba"), "memory", "smoke", ("count",))
    monkeypatch.setitem(TARGETS, "mamba", 0.003)
    plain = tuning(request, 2, OPTUNA)
    costs = {name: sum(_flops(cell) for cell in plain.trials_of({name: [plain.inside]})) for name in request.backbones}
    assert costs["mamba"] > 1.2 * costs["mlp"] > 0
    asked = tuning(request, f"{9.5 * costs['mlp']:.3g}flops", OPTUNA)
    assert asked.tag.startswith(f"{asked.budget.word}:train.lr:tpe")
    tried, status = found_by(asked, grid, tmp_path)
    assert status == 0
    assert {name: len(found) for name, found in tried.items()} == {
        "mlp": 9,
        "mamba": int(asked.budget.flops / costs["mamba"]),
    }
    assert set(choose(asked, tmp_path, tried)[0]) == {"mlp", "mamba"}
    again = Grid(monkeypatch)
    for stop in (5, 20):
        again.stop_after = stop
        assert found_by(asked, again, tmp_path / "again")[1] == 130
    again.stop_after = 10**6
    assert found_by(asked, again, tmp_path / "again") == (tried, 0)
    fewer = {name: settings[:-2] for name, settings in tried.items()}
    assert choose(asked, tmp_path, fewer)[0] == {}, "trials that use up less than the budget chose a setting"


def _flops(cell: Cell) -> float:
    backbone = make_backbone(cell)
    of_token = backbone.flops(backbone.spec.max_length)
    assert of_token is not None
    return 3 * of_token * cell.train.steps * cell.train.batch_size * len(cell.model.tokens) * cell.model.context


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("mlp", "--tune 1e6flops: mlp needs .* FLOPs for a setting; give twice that or more"),
        ("mixers:HandAttention", "the FLOPs of mixers:HandAttention are unknown; define flops, or give a number"),
    ],
)
def test_a_budget_that_no_trial_fits_is_one_line(backbone: str, said: str, grid: Grid, tmp_path: Path) -> None:
    asked = tuning(Request((backbone,), "memory", "smoke", ("count",)), "1e6flops", OPTUNA)
    with pytest.raises(UserError, match=said):
        found_by(asked, grid, tmp_path / "new")
    assert not (tmp_path / "new").exists()
