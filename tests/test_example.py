"""The example in the documentation is the code in examples/, and it keeps the contract."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbench.backbones import BACKBONES, UserError
from backbench.backbones.build import build
from backbench.backbones.check import check
from backbench.backbones.contract import Causal, Spec

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "backbench-ema"
XLSTM = ROOT / "examples" / "backbench-xlstm"
PAGE = ROOT / "docs" / "how-to" / "add-a-backbone.md"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "backbench_ema", raising=False)
    return "backbench_ema:EMA"


def test_documentation_page_shows_the_same_files() -> None:
    blocks = re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    files = [EXAMPLE / "backbench_ema.py", EXAMPLE / "pyproject.toml", XLSTM / "backbench_xlstm.py"]
    assert [code for _, code in blocks] == [file.read_text() for file in files]


def test_the_example_is_short() -> None:
    lines = (EXAMPLE / "backbench_ema.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 60


def test_the_example_keeps_the_contract(name: str) -> None:
    results = check(name)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


def test_example_without_its_own_step_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default step recomputes and gives the same outputs."""
    ema = BACKBONES.get(name)
    start = ema.initial_state

    class Short(ema):  # type: ignore[misc, valid-type]
        step = Causal.step

        def initial_state(self, batch: int, device: object = None, dtype: object = None) -> object:
            return Causal.initial_state(self, batch)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with monkeypatch.context() as patch:  # forward begins from EMA's own zeros
                patch.setattr(self, "initial_state", lambda batch: start(self, batch))
                return super().forward(x)  # type: ignore[no-any-return]

    results = check(Short)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


def test_wrong_options_of_the_example_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"horizon=0\.5"):
        build(name, {"horizon": 0.5}, Spec(8))
    with pytest.raises(UserError, match="did you mean 'horizon'"):
        build(name, {"horizons": 3}, Spec(8))


# The parts of the package xlstm that the example uses, for a machine without it: the same names, a simpler layer.
STAND_IN = """
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class mLSTMLayerConfig:
    embedding_dim: int
    context_length: int
    num_heads: int = 4
    proj_factor: float = 2.0

class mLSTMLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, inner = config, int(config.proj_factor * config.embedding_dim)
        self.up, self.down = nn.Linear(config.embedding_dim, inner), nn.Linear(inner, config.embedding_dim)

    def forward(self, x):
        assert x.shape[1] <= self.config.context_length
        return self.down(torch.cumsum(self.up(x), 1) / torch.arange(1, x.shape[1] + 1).unsqueeze(-1))
"""
BENCH = ("-c", "from backbench.benchmarks.cli.app import main; main()")


def run(*words: object, **environment: str) -> str:
    """A Python command that succeeds: what it printed."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def xlstm_site(tmp_path: Path) -> Path:
    """A folder with the package of the example, installed from its own wheel, without a network."""
    offline = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    shutil.copytree(XLSTM, tmp_path / "source")
    wheels = tmp_path / "wheels"
    run("-m", "pip", "wheel", *offline, "--no-build-isolation", "--wheel-dir", wheels, tmp_path / "source")
    (wheel,) = wheels.glob("backbench_xlstm-*.whl")
    run("-m", "pip", "install", *offline, "--target", tmp_path / "site", wheel)
    return tmp_path / "site"


def test_the_package_for_xlstm_runs_from_its_own_wheel(xlstm_site: Path, tmp_path: Path) -> None:
    """With a layer that stands in for the authors'."""
    layer = tmp_path / "stand-in" / "xlstm" / "blocks" / "mlstm" / "layer.py"
    layer.parent.mkdir(parents=True)
    layer.write_text(STAND_IN)
    path = os.pathsep.join(map(str, (xlstm_site, tmp_path / "stand-in", *filter(None, sys.path))))
    said = run(*BENCH, "check", "xlstm", "backbone.num_heads=2", PYTHONPATH=path)
    assert "xlstm: 19 of 19 checks passed" in said
    assert "entry point of backbench-xlstm" in run(*BENCH, "list", "backbones", PYTHONPATH=path)


@pytest.mark.network
def test_the_authors_layer_keeps_the_contract(xlstm_site: Path, tmp_path: Path) -> None:
    packages = ("xlstm==2.0.6", "mlstm_kernels", "einops", "dacite", "omegaconf", "antlr4-python3-runtime==4.9.3")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "authors", *packages)
    path = os.pathsep.join(map(str, (xlstm_site, tmp_path / "authors", *filter(None, sys.path))))
    assert "xlstm: 19 of 19 checks passed" in run(*BENCH, "check", "xlstm", PYTHONPATH=path)
