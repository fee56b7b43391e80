"""The command line: a mistake is one line that helps, exit status 2, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_calls import Call
from planning import cells
from record_factory import make_record

from backbench.backbones import BACKBONES
from backbench.benchmarks.cli.words import seeds
from backbench.benchmarks.data import store
from backbench.benchmarks.plan.settings import Cell
from backbench.leaderboard.record.files import dump_record

RUN = ["run", "--backbone", "identity", "--task", "hopper-medium", "--preset", "smoke", "--track", "none"]


BENCH = str(Path(sys.executable).with_name("bench"))


def changed(*pairs: str) -> list[str]:
    """``RUN`` with other values for these options, as option, value, option, value, …"""
    words = list(RUN)
    for option, value in zip(pairs[::2], pairs[1::2], strict=True):
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


MISTAKES: list[tuple[list[str], str]] = [
    (changed("--backbone", "glomma"), "did you mean 'gloma'?"),
    (changed("--backbone", ""), "name at least one"),
    (changed("--backbone", "no_such_module:Class"), "run the command in the folder of no_such_module.py"),
    (changed("--backbone", "backbench.backbones.mixers.mamba:Mambo"), "did you mean 'Mamba'?"),
    (changed("--backbone", "./no_such_file.py:Class"), "no file ./no_such_file.py"),
    (changed("--backbone", "no-module.py:Class"), "no file no-module.py"),
    (["check", "no_such_module:Class"], "run the command in the folder of no_such_module.py"),
    (["check", "./no_such_file.py:Class"], "no file ./no_such_file.py"),
    (changed("--backbone", "pathlib:Path"), "derive it from one"),
    (changed("--backbone", "identity,identity"), "the same cell was asked for twice"),
    (changed("--suite", "d4r"), "did you mean 'd4rl'?"),
    (changed("--task", "hopper-mediun"), "did you mean 'hopper-medium'?"),
    (changed("--preset", "smok"), "did you mean 'smoke'?"),
    (changed("--data", "embeded"), "did you mean 'embedded'?"),
    (changed("--seeds", "0"), "at least one seed"),
    (changed("--seeds", "1,-1"), "none below 0"),
    (changed("--seeds", "two"), "give a count"),
    (changed("--seeds", "1,1"), "the same cell was asked for twice"),
    (changed("--seeds", "0,4294967296"), "2**32 - 1"),
    (changed("--seeds", "9-3"), "at least one seed"),
    (changed("--seeds", "1-2-3"), "a range such as 10-19"),
    (changed("--seeds", "1" * 5000), "a range such as 10-19"),
    (changed("--seeds", "20240611"), "20,240,611 seeds are over the limit of 10,000 cells; raise it with --max-cells"),
    (changed("--seeds", "20240611"), "one seed alone is --seeds 20240611-20240611"),
    (changed("--seeds", "0-4294967294,7"), "4,294,967,296 seeds are over the limit"),
    (changed("--seeds", "3", "--max-cells", "2"), "3 seeds are over the limit of 2 cells"),
    ([*changed("--seeds", "200"), f"train.lr={','.join(map(str, range(1, 52)))}"], "10,200 cells or more (200 seeds"),
    ([*RUN, "train.lr=range(1,1000000000)"], "10,001 cells or more"),
    ([*RUN, "train.lr=${oc.env:HOME}"], "override 'train.lr=${oc.env:HOME}': write the value itself"),
    ([*RUN, "data.source=${train.steps}"], "write the value itself"),
    ([*RUN, "train.lr=???"], "write the value itself"),
    ([*RUN, "train.lr =1"], "write it without spaces: train.lr=1"),
    ([*RUN, "train.lr= 1"], "write it without spaces: train.lr=1"),
    ([*RUN, "train.lr=1", "train.lr=2"], "train.lr is given twice"),
    ([*RUN, "train.lr=null"], "'null' is not a number"),
    ([*RUN, "train.lr="], "'' is not a number"),
    ([*RUN, "train.lr=1e999"], "give a finite number"),
    ([*RUN, "train.lr=ü"], "it cannot be read; write key=value"),
    ([*RUN, "train.lr=\x1b[2J"], r"train.lr=\x1b[2J"),
    ([*RUN, f"train.lr={'9' * 5000}"], "(5,009 characters)': it is too long"),
    ([*RUN, f"train.lr={'[' * 500}{']' * 500}"], "too deeply nested"),
    ([*RUN, f"train.lr={'{a:' * 200}1{'}' * 200}"], "too deeply nested"),
    ([*RUN, "train.lr={a:1}"], "'{a:1}' is not a number"),
    ([*RUN, "train.bf16=maybe"], "'maybe' is not true or false"),
    ([*RUN, "train.schedule=[constant]"], "'[constant]' is not a word"),
    ([*RUN, "eval.targets=[1,[2]]"], "give a list of numbers"),
    ([*RUN, "eval.targets={}"], "is not a list of numbers"),
    ([*RUN, "train.lr=1\ntrain.steps=2"], "it cannot be read"),
    ([*RUN, "=1"], "unknown override key ''"),
    ([*RUN, "train.lr=glob(*)"], "it cannot be read"),
    (changed("--device", "tpu"), "auto, cpu, cuda"),
    (changed("--jobs", "-1"), "--jobs"),
    ([*RUN, "--devise", "cpu"], "did you mean '--device'?"),
    ([*RUN, "train.step=5"], "did you mean 'train.steps'?"),
    ([*RUN, "tran.steps=5"], "did you mean 'train.steps'?"),
    ([*RUN, "+train.steps=5"], "write train.steps="),
    ([*RUN, "~train.steps"], "write train.steps="),
    ([*RUN, "train.steps"], "write key=value"),
    ([*RUN, "train.steps=0"], "give at least 1"),
    ([*RUN, "train.steps=1.5"], "train.steps=1.5"),
    ([*RUN, "train.steps=many"], "'many'"),
    ([*RUN, "train.lr=1e-3,inf"], "train.lr=inf: give a finite number"),
    ([*RUN, "train.lr=nan"], "give a positive number"),
    ([*RUN, "train.lr=interval(0,1)"], "write key=value"),
    ([*RUN, "train.lr=${oc.env:HOME}"], "write the value itself; references to other values are not read"),
    ([*RUN, "train.lr=1e-3,1e-3"], "the same cell was asked for twice"),
    ([*RUN, "train.betas=[0.9]"], "give two numbers"),
    ([*RUN, "train.schedule=linear"], "constant, cosine"),
    ([*RUN, "eval.acting=windows"], "window, recurrent"),
    ([*RUN, "eval.targets=[1,nan]"], "eval.targets"),
    ([*RUN, "eval.targets=[1,1]"], "the same target twice"),
    ([*RUN, "model.dropout=1"], "[0, 1)"),
    ([*RUN, "data.source=dqn-replay"], "unknown data source 'dqn-replay'"),
    ([*RUN, "seed=3"], "--seeds"),
    ([*RUN, "backbone.window=3"], "unknown override key 'backbone.window'"),
    ([*changed("--backbone", "gloma"), "backbone.windov=3"], "did you mean 'backbone.window'?"),
    ([*changed("--backbone", "gloma"), "backbone.fusion=product"], "product"),
    ([*changed("--backbone", "transformer"), "model.d_model=30", "backbone.n_heads=4"], "30"),
    ([*RUN, "lr=1e-3"], "did you mean 'train.lr'?"),
    ([*RUN, "steps=5"], "train.steps"),
    (["run", "gloma", "d4rl"], "bench run --backbone gloma --suite d4rl"),
    (["run", "--backbone", "gloma", "hopper-medium"], "bench run --task hopper-medium"),
    (["run"], "--backbone: name at least one"),
    (["runn"], "run"),
    (["list", "backbone"], "did you mean 'backbones'?"),
    (["check", "glomma"], "did you mean 'gloma'?"),
    (["check", "gloma", "window"], "key=value"),
    (["check", "gloma", "windov=3"], "did you mean 'window'?"),
    (["check", "gloma", "window=["], "option 'window=[' is not valid YAML"),
    (["check", "gloma", "window=2001-99-99"], "write it in quotes"),
    (["check", "gloma", f"window={'[' * 3000}"], "is YAML with more than 64 levels"),
    (["data", "make", "hopper-mediun"], "cannot be made"),
    (["data", "show", "no/such-v0"], "put it there, in Minari's format"),
    (["data", "verify", "no/such-v0"], "is not in the store"),
    (["data", "remove", "hopper-medium"], "is in the store"),
    (["data", "list", "--source", "d4lr"], "did you mean 'd4rl'?"),
    (["data", "pull", "d4rl", "hopper-mediun"], "did you mean 'hopper-medium'?"),
    (["data", "pull", "minari"], "name some, a task or a suite"),
    ([*changed("--suite", "d4rl-antmaz")], "did you mean 'd4rl-antmaze'?"),
    ([*changed("--suite", "no/file.yaml")], "no file no/file.yaml of a suite"),
    ([*RUN, "--executor", "slrum"], "--executor slrum: give local, slurm, ray"),
    ([*RUN, "--time", "60", "--mem", "4G"], "--time/--mem: --executor local has no such option; give --executor slurm"),
    ([*RUN, "--sampler", "optuna"], "--sampler optuna is for the trials of --tune N; add it"),
    ([*RUN, "--tune", "many"], "--tune many: give a number of settings, or FLOPs of training such as 2e15flops"),
    ([*RUN, "--tune", "1flops"], "--tune 1flops: give FLOPs from 1e6flops"),
    ([*RUN, "--tune", "2e15flops"], "--tune 2e15flops: a grid has a number of settings; add --sampler optuna"),
    ([*RUN, "--tune", "3", "--sampler", "tpe"], "--sampler tpe: give grid or optuna"),
    ([*RUN, "--track", "tensorbord"], "./folder; did you mean 'tensorboard'?"),
    ([*RUN, "--device", "cpu", "--cells-per-device", "2"], "--cells-per-device=2 is for GPUs"),
    (["status", "nowhere"], "nowhere has no runs/*.plan, which bench run writes"),
    (["leaderboard", "nowhere"], "run something first"),
    (["leaderboard", "--format", "hmtl"], "did you mean 'html'?"),
    (["ui"], "run something first"),
]


@pytest.mark.parametrize(("words", "said"), MISTAKES, ids=[" ".join(w)[-40:] for w, _ in MISTAKES])
def test_a_mistake_is_one_line_with_a_remedy(
    call: Call, tmp_path: Path, new_store: Path, words: list[str], said: str
) -> None:
    answer = call(*words)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1, "not one line"
    assert answer.err.startswith("bench: ")
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own(bench: Callable[..., Any], tmp_path: Path) -> None:
    answer = bench("run", "--backbone", "glomma")
    assert answer.code == 2
    assert answer.err.startswith("bench: unknown backbone 'glomma'; did you mean 'gloma'?")
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


def test_unreachable_data_are_reported_at_once(
    call: Call, tmp_path: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBENCH_D4RL", "http://127.0.0.1:9")  # nobody is there
    for words in (changed("--preset", "paper"), [*RUN, "data.source=embedded,d4rl"]):
        began = time.monotonic()
        answer = call(*words)
        assert answer.code == 2
        assert "http://127.0.0.1:9" in answer.err
        assert "bench data pull d4rl hopper-medium --from FOLDER" in answer.err
        assert answer.err.count("\n") == 1
        assert not (tmp_path / "results").exists()
        assert store.names() == []
        assert time.monotonic() - began < 15, "it went on trying"


def test_a_folder_that_cannot_be_written_is_refused(call: Call, hopper_store: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for out in ("taken", "taken/results"):
        answer = call(*changed("--out", out))
        assert answer.code == 2
        assert f"cannot write to {out}" in answer.err
        assert "--out" in answer.err
        assert answer.err.count("\n") == 1
    assert (tmp_path / "taken").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("content", ['{"schema_version": 1, "key": "cut', "", '{"schema_version": 99}', "[]"])
def test_a_broken_record_is_named_and_kept(call: Call, hopper_store: Path, tmp_path: Path, content: str) -> None:
    (cell,) = cells(["identity"], "d4rl", "smoke", [0], ["hopper-medium"])
    path = cell.record_path(Path("results"))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    answer = call(*RUN)
    assert answer.code == 2
    assert path.name in answer.err
    assert answer.err.count("\n") == 1
    assert path.read_text() == content
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["records"]
    board = call("leaderboard", "results")
    assert board.code == 2
    assert path.name in board.err


def names(made: list[Cell]) -> list[tuple[Any, ...]]:
    return [(c.backbone, c.train.lr, c.task.name, c.seed) for c in made]


def test_comma_lists_make_a_grid_in_order() -> None:
    made = cells(
        ["mamba", "gloma"], "d4rl", "smoke", [0, 5], ["hopper-medium", "walker2d-medium"],
        overrides=["train.lr=1e-4,1e-3", "train.steps=7"],
    )  # fmt: skip
    assert names(made) == [
        (backbone, lr, task, seed)
        for backbone in ("mamba", "gloma")
        for lr in (1e-4, 1e-3)
        for task in ("hopper-medium", "walker2d-medium")
        for seed in (0, 5)
    ]
    assert len({c.key for c in made}) == 16
    assert {c.train.steps for c in made} == {7}
    assert {c.variant for c in made} == {"train.lr=0.0001 train.steps=7", "train.lr=0.001 train.steps=7"}
    assert {c.task.data_id for c in made} == {"backbench/hopper/medium-2000-v1", "backbench/walker2d/medium-2000-v1"}


def test_what_hydra_offers_for_lists() -> None:
    made = cells(["gloma"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["backbone.window=range(2,5,1)"])
    assert [c.options["window"] for c in made] == [2, 3, 4]
    (made,) = cells(["gloma"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["eval.targets=[5,7]"])
    assert made.targets == (5.0, 7.0)


def test_an_override_that_says_the_default_is_the_same_cell() -> None:
    plain = cells(["gloma"], "d4rl", "smoke", [0], ["hopper-medium"])
    said = cells(["gloma"], "d4rl", "smoke", [0], ["hopper-medium"], overrides=["train.log_every=1", "train.steps=20"])
    assert [c.key for c in said] == [c.key for c in plain]


def test_list_shows_backbones_suites_tasks_and_presets(call: Call) -> None:
    listed = call("list").out.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == BACKBONES.names(), "a line each"
    one = call("list", "gloma").out
    assert "backbone.window=2" in one, "options with their defaults"
    assert "arXiv:2406.02013" in one, "papers"
    assert "backbone.mamba.d_state=16" in call("list", "gru+mamba").out
    assert "9 tasks" in call("list", "suites").out
    listed = call("list", "tasks").out
    assert listed.count("\n") == 101
    assert "hopper-medium-replay" in listed
    assert call("list", "presets").out.split() == ["paper", "paper-decision-mamba", "quick", "smoke"]
    assert call("--version").out.startswith("backbench ")


def test_check_prints_every_check_of_the_contract(call: Call) -> None:
    answer = call("check", "identity")
    assert answer.code == 0
    assert "causality" in answer.out
    assert "checks passed" in answer.out


def test_a_check_that_fails(call: Call) -> None:
    answer = call("check", "planted_backbones:WrongShape")
    assert answer.code == 1
    assert "FAILED" in answer.out


def test_a_dry_run_lists_cells_and_settings_and_writes_nothing(call: Call, hopper_store: Path, tmp_path: Path) -> None:
    answer = call(*RUN, "--dry-run", "train.lr=1e-4,1e-3")
    assert answer.code == 0
    assert answer.out.count("identity.hopper-medium.embedded.smoke.s0.") == 3  # two cells, and the first one's settings
    assert "2 of 2 cells to run; time unknown" in answer.out
    assert "lr: 0.0001" in answer.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_estimates_time_from_finished_records(call: Call, hopper_store: Path, tmp_path: Path) -> None:
    (cell,) = cells(["identity"], "d4rl", "smoke", [0], ["hopper-medium"])
    record = make_record("identity", "hopper-medium")
    shape = {"d_model": cell.model.d_model, "n_layers": cell.model.n_layers, "context": cell.model.context}
    model = record.identity.model.model_copy(update=shape)
    identity = record.identity.model_copy(update={"model": model})
    dump_record(record.model_copy(update={"identity": identity}), tmp_path / "results" / "records" / "one.json")
    answer = call(*changed("--seeds", "3"), "--dry-run")
    assert answer.code == 0
    assert "3 of 3 cells to run; about 0:" in answer.out
    assert "finished records" in answer.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bench run --backbone glo", "gloma"),
        ("bench run --backbone mamba,glo", "mamba,gloma"),
        ("bench run --backbone mamba+transformerp", "mamba+transformerpp"),
        ("bench run --suite d4rl-k", "d4rl-kitchen"),
        ("bench run --suite atari --task bre", "breakout"),
        ("bench run --preset sm", "smoke"),
        ("bench check id", "identity"),
        ("bench list su", "suites"),
        ("bench run --data d4", "d4rl"),
        ("bench watch glo", "gloma.hopper-medium"),
    ],
)
def test_the_shell_completes_values(tmp_path: Path, line: str, offered: str) -> None:
    dump_record(make_record("gloma", "hopper-medium"), tmp_path / "results/records/gloma.hopper-medium.json")
    environment = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(
        [BENCH], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **environment}, timeout=60
    )
    assert done.stdout.split() == [offered], done.stderr


def test_seeds_are_a_count_a_list_or_ranges() -> None:
    assert seeds("3", 10) == (0, 1, 2)
    assert seeds("4,7", 10) == (4, 7)
    assert seeds("10-12, 7", 10) == (10, 11, 12, 7)
    assert seeds("20240611-20240611", 10) == (20240611,)
