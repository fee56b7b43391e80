"""``backbench.run`` does what ``bench run`` does, from a script or a notebook."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from planning import cells as planned
from torch import Tensor

import backbench
from backbench import UserError
from backbench.backbones.contract import Mixer
from backbench.benchmarks.cli.run import Where, invoke
from backbench.benchmarks.plan.request import Request
from backbench.leaderboard.record.schema import Record

SMALL = {"task": "hopper-medium", "preset": "smoke", "track": "none"}
QUIET = {"train.evaluations": 1, "eval.episodes": 1, "eval.max_steps": 20}


def no_run(*_: object) -> None:
    raise AssertionError("a done cell ran again")


def returns(record: Record) -> list[tuple[float, ...]]:
    assert record.scores is not None, record.failure
    return [score.returns for score in record.scores.last.targets]


@pytest.fixture(scope="module")
def ran(hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[backbench.Results]:
    """Two cells in workers; one backbone is a registered class of a module of the user's."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "mixer_of_a_run.py").write_text(
        "from backbench.backbones.contract import Mixer\nclass Same(Mixer):\n    def forward(self, x): return x\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        backbench.register("same_tokens", importlib.import_module("mixer_of_a_run").Same)
        names = ["identity", "same_tokens"]
        yield backbench.run(names, seeds=[3], out=folder / "results", jobs=2, overrides=QUIET, **SMALL)  # type: ignore[arg-type]


def test_a_registered_class_of_a_module_runs_in_a_worker(ran: backbench.Results) -> None:
    assert [record.identity.backbone for record in ran.records] == ["identity", "same_tokens"]
    identity, same = map(returns, ran.records)
    assert identity == same
    assert ran.errors == {}


def test_the_command_takes_the_cells_for_done(ran: backbench.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbench.benchmarks.run.runner.run", no_run)
    words = tuple(f"{key}={value}" for key, value in QUIET.items())
    request = Request(("identity",), "d4rl", "smoke", ("hopper-medium",), (3,), overrides=words)
    assert invoke(request, Where(1, "cpu", ran.folder, "none")) == 0
    said = ran.records[0].provenance.command
    begin = "backbench.run --suite d4rl --preset smoke --seeds 3 --backbone identity,same_tokens --task hopper-medium"
    assert said.startswith(f"{begin} train.evaluations=1")


def test_one_cell_in_this_process_has_the_bits_of_a_worker_and_leaves_torch_alone(
    ran: backbench.Results, tmp_path: Path
) -> None:
    cell = backbench.cell("identity", "hopper-medium", preset="smoke", seed=3, overrides=QUIET)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        record = backbench.run_cell(cell, tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    assert record.provenance.weights_sha256 == ran.records[0].provenance.weights_sha256
    assert record.provenance.threads == ran.records[0].provenance.threads == 1
    assert backbench.run_cell(record.provenance.config, tmp_path) == record, "a cell that is done ran again"


def test_results_show_scores_in_text_and_in_a_notebook(ran: backbench.Results) -> None:
    header, scores, seeds = str(ran).splitlines()
    assert re.fullmatch(r" *d4rl +identity \(.*\) +same_tokens \(.*\)", header)
    assert re.fullmatch(r" *hopper-medium +[\d.]+ +[\d.]+", scores)
    assert re.fullmatch(r" *seeds +1 +1", seeds)
    assert "<td>hopper-medium</td>" in ran._repr_html_()
    assert "Score: D4RL" in str(ran.board)
    assert "Score: D4RL" in str(backbench.board(ran.folder))
    assert backbench.board(ran.records)._repr_html_().startswith("<pre>")
    assert repr(ran).endswith("2 done, 0 failed, 0 without a record>")


def test_finished_cells_are_reused_and_nothing_is_printed(
    ran: backbench.Results, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backbench.benchmarks.run.runner.run", no_run)
    again = backbench.run(["identity", "same_tokens"], seeds=[3], out=ran.folder, overrides=QUIET, **SMALL)  # type: ignore[arg-type]
    assert again.records == ran.records
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_fails_is_in_the_results(hopper_store: Path, tmp_path: Path) -> None:
    class Local(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return x

    backbench.register("local", Local)  # in this process, which is faster
    overrides = ["train.lr=1e30,1e-3", "eval.max_steps=5", "eval.episodes=1"]
    found = backbench.run("local", out=tmp_path, overrides=overrides, **SMALL)  # type: ignore[arg-type]
    assert [record.identity.variant for record in found.records] == ["eval.episodes=1 eval.max_steps=5 train.lr=0.001"]
    (failed,) = found.failed
    assert failed.failure is not None
    assert f"failed: {failed.key}: {failed.failure.message}" in str(found)


def test_settings_of_a_cell_are_those_of_the_plan() -> None:
    (cell,) = planned(["mamba"], "memory", "quick", [4], ["tmaze-24"], overrides=["backbone.d_state=8"])
    assert backbench.cell("mamba", "tmaze-24", "memory", seed=4, overrides={"backbone.d_state": 8}) == cell
    many = backbench.cell("mlp", "hopper-medium", overrides={"eval.targets": [1, 2.5], "train.bf16": False})
    assert (many.eval.targets, many.train.bf16) == ((1.0, 2.5), False)


MISTAKES: list[tuple[Callable[..., Any], str]] = [
    (lambda out: backbench.run("glomma", out=out, **SMALL), "did you mean 'gloma'?"),  # type: ignore[arg-type]
    (lambda out: backbench.run([], out=out), r"backbone=\[\]: name one"),
    (lambda out: backbench.run("mlp", "d4r", out=out), "did you mean 'd4rl'?"),
    (lambda out: backbench.run("mlp", task="hoper", out=out), "unknown task 'hoper'"),
    (lambda out: backbench.run("mlp", seeds=0, out=out), "seeds=0: give how many"),
    (lambda out: backbench.run("mlp", seeds=["a"], out=out), r"seeds=\['a'\]: give whole numbers"),  # type: ignore[list-item]
    (lambda out: backbench.run("mlp", jobs=-1, out=out), "jobs=-1: give a whole number"),
    (lambda out: backbench.run("mlp", overrides="train.lr=1", out=out), "give a list such as"),
    (lambda out: backbench.run("mlp", overrides={"lr": 1e-3}, out=out), "did you mean 'train.lr'?"),
    (lambda out: backbench.run("mlp", device="tpu", out=out, **SMALL), "unknown device 'tpu'"),  # type: ignore[arg-type]
    (lambda out: backbench.cell("mlp", "hopper-medium", overrides=["train.lr=1,2"]), "they make 2 cells"),
    (lambda out: backbench.run_cell({"backbone": "mlp"}, out), "settings of the record: missing task"),
    (lambda out: backbench.load_records(out), "there is no such folder"),
    (lambda out: backbench.board(out), "there is no such folder"),
]


@pytest.mark.parametrize(("call", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_is_one_line_and_writes_nothing(call: Callable[..., Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as caught:
        call(tmp_path / "results")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_broken_record_is_skipped_with_a_warning(ran: backbench.Results, tmp_path: Path) -> None:
    good = ran.folder / "records" / f"{ran.records[0].key}.json"
    (tmp_path / good.name).write_text(good.read_text())
    (tmp_path / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match=r"skipped: .*broken.json"):
        assert backbench.load_records(tmp_path) == [ran.records[0]]
    (tmp_path / good.name).unlink()
    with pytest.raises(UserError, match=r"broken.json"):
        backbench.load_records(tmp_path)


SCRIPT = """
import backbench
from backbench.backbones.contract import Mixer

class Mine(Mixer):
    def forward(self, x):
        return x

backbench.register("mine", Mine)
settings = dict(task="hopper-medium", preset="smoke", track="none", overrides={
    "train.evaluations": 1, "eval.episodes": 1, "eval.max_steps": 20,
})
for name in ("identity", "mine"):
    found = backbench.run(name, **settings)
    print("ran", [record.identity.backbone for record in found.records], found.errors)
try:
    backbench.run("identity+mine", jobs=2, **settings)
except backbench.UserError as error:
    print(error)
"""


def test_a_script_without_a_guard_runs_once_and_its_own_backbone_in_its_process(
    hopper_store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    *ran, refused = done.stdout.splitlines()
    assert (ran, done.stderr) == (["ran ['identity'] {}", "ran ['mine'] {}"], "")
    assert refused.startswith("jobs=2: backbone 'mine' is defined in the main script or in a function, and no other")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_ctrl_c_is_a_keyboard_interrupt_and_the_next_call_resumes(
    handler: Any, hopper_store: Path, tmp_path: Path
) -> None:
    cell = backbench.cell("identity", "hopper-medium", preset="smoke", overrides=QUIET | {"train.steps": 40})
    begun: list[int] = []

    def interrupt(self: object, event: Any) -> None:
        if event.kind == "train" and not begun:
            begun.append(event.step)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("backbench.benchmarks.run.sinks.terminal.RunDisplay.event", interrupt)
            with pytest.raises(KeyboardInterrupt):
                backbench.run_cell(cell, tmp_path / "one")
    finally:
        signal.signal(signal.SIGINT, before)
    assert list((tmp_path / "one" / "checkpoints").rglob("state.pt"))
    assert not list((tmp_path / "one" / "records").iterdir())
    resumed, straight = (backbench.run_cell(cell, tmp_path / name) for name in ("one", "two"))
    assert resumed.provenance.weights_sha256 == straight.provenance.weights_sha256
