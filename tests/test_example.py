"""The example in the documentation is the code in examples/, and it keeps the contract."""

from __future__ import annotations

import re
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
PAGE = ROOT / "docs" / "how-to" / "add-a-backbone.md"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "backbench_ema", raising=False)
    return "backbench_ema:EMA"


def test_documentation_page_shows_the_same_files() -> None:
    blocks = re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    files = {"python": "backbench_ema.py", "toml": "pyproject.toml"}
    assert sorted(language for language, _ in blocks) == sorted(files)
    for language, code in blocks:
        assert code == (EXAMPLE / files[language]).read_text()


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
