"""A package installed beside Backbench adds a backbone like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backbench.backbones import BACKBONES
from backbench.benchmarks.cli.words import backbone_names

EXAMPLE = Path(__file__).parents[3] / "examples" / "backbench-ema"


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the example is not part of an installed package")
def test_the_example_plug_in_runs(
    hopper_store: Path, bench: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    work = tmp_path_factory.mktemp("plug-in")
    shutil.copytree(EXAMPLE, work / "source")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", work / "site"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words), str(work / "source")],
        check=True,
        capture_output=True,
    )
    path = str(work / "site")
    assert "entry point of backbench-ema" in bench("list", PYTHONPATH=path).out
    done = bench(
        "run", "--backbone", "ema", "--preset", "smoke", "--task", "hopper-medium", "--track", "none",
        "backbone.horizon=12", "eval.max_steps=20", PYTHONPATH=path,
    )  # fmt: skip
    assert done.code == 0, done.err
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "results" / "records").glob("*.json"))
    assert record["identity"]["backbone"] == "ema"
    assert record["identity"]["options"] == {"horizon": 12.0}
    assert record["identity"]["variant"] == "backbone.horizon=12 eval.max_steps=20"
    assert record["status"] == "done"


MIXER = """
from torch import nn
from backbench.backbones.contract import Mixer

class Mine(Mixer):
    def __init__(self, options, spec):
        super().__init__(options, spec)
        self.layer = nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x):
        return self.layer(x)
"""


def test_a_file_in_the_working_folder_is_a_backbone_also_in_worker_processes(
    hopper_store: Path, bench: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "own_mixer.py").write_text(MIXER, encoding="utf-8")
    done = bench(
        "run", "--backbone", "own_mixer:Mine", "--preset", "smoke", "--task", "hopper-medium", "--track", "none",
        "eval.max_steps=5", "train.steps=2", "train.evaluations=1",
    )  # fmt: skip
    assert done.code == 0, done.err + done.out
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "results" / "records").glob("*.json"))
    assert record["identity"]["backbone"] == "own_mixer:Mine"


def test_a_file_and_its_module_are_one_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mixers"
    folder.mkdir()
    (folder / "own_mixer_of_a_file.py").write_text(MIXER, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert backbone_names("mlp, mixers/own_mixer_of_a_file.py:Mine") == ("mlp", "own_mixer_of_a_file:Mine")
    assert BACKBONES.get("own_mixer_of_a_file:Mine").__module__ == "own_mixer_of_a_file"
    assert sys.path[0] == str(folder)


def test_a_file_in_the_working_folder_hides_nothing_that_is_installed(
    bench: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "own_mixer.py").write_text(MIXER, encoding="utf-8")
    (tmp_path / "rich.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    checked = bench("check", "own_mixer:Mine")
    assert "19 of 19 checks passed" in checked.out, checked.err


def test_an_error_in_the_file_is_one_line_with_its_place(bench: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "own_mixer.py").write_text("\n\nx = 1 / 0\n", encoding="utf-8")
    answer = bench("check", "own_mixer.py:Mine")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"ZeroDivisionError: division by zero ({tmp_path / 'own_mixer.py'}, line 3)" in answer.err
    assert "pip install" not in answer.err


def test_all_leaves_out_a_broken_package_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = BACKBONES.names()
    monkeypatch.setattr(BACKBONES, "names", lambda: [*names, "no_module:Mine"])
    assert backbone_names("all,mamba") == tuple(names)
    assert backbone_names("mamba,mamba") == ("mamba", "mamba"), "a name given twice is a mistake that the plan reports"
    assert "left out: backbone 'no_module:Mine' cannot be imported" in capsys.readouterr().err
