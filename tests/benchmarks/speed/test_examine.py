"""A model with a wrong kernel, output or acting is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from speed_settings import tiny
from torch import Tensor, nn

from backbench.backbones.contract import Mixer, Spec
from backbench.backbones.kernels import Implementation, ScanInputs
from backbench.backbones.kernels.scan.selective_scan import SELECTIVE_SCAN
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import backbone_model
from backbench.benchmarks.speed.report import read
from backbench.benchmarks.speed.run import measure, speed


@pytest.fixture
def wrong_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """An implementation that ``auto`` takes, and whose gradient of B is off by a thousandth."""

    def wrong(inputs: ScanInputs) -> Tensor:
        B = inputs.B
        return SELECTIVE_SCAN.table["torch"].function(inputs._replace(B=B + 1e-3 * (B - B.detach())))

    monkeypatch.setattr(SELECTIVE_SCAN, "table", SELECTIVE_SCAN.table | {"wrong": Implementation("wrong", wrong)})
    monkeypatch.setattr(SELECTIVE_SCAN, "_found", {})


def test_a_wrong_kernel_is_refused(wrong_scan: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever runs it has no number, the others have; the exit status says so."""
    config = tiny("transformer", "mamba", parts=("training", "kernels"))
    assert speed(replace(config, out=tmp_path)) == 1
    report = read(tmp_path)
    assert [one.model for one in report.training] == ["transformer"]
    models = {one.model: one for one in report.models}
    assert models["transformer"].refused is None
    assert "selective_scan wrong" in str(models["mamba"].refused)
    assert "gradient of B off by 1.0e-03" in str(models["mamba"].refused)
    timed = {one.implementation: one for one in report.kernels if one.operation == "selective_scan" and not one.window}
    assert timed["wrong"].refused
    assert timed["wrong"].seconds == ()
    assert timed["torch"].refused is None
    assert timed["torch"].seconds
    assert report.scan_lengths == ()  # it would have been the wrong one's
    printed = capsys.readouterr().out
    assert "refused: mamba:" in printed
    assert "refused: selective_scan wrong" in printed


def test_kernels_in_bfloat16_have_a_larger_tolerance() -> None:
    """And are compared in that type; the whole is not, as rounding it layer after layer would hide what is wrong."""
    _, checks = Examiner(tiny("transformer", bf16=True)).check(backbone_model("transformer", tiny("transformer")))
    found = {check.partition(" ")[0]: float(check.rpartition(" ")[2]) for check in checks}
    assert 1e-4 < found["attention"] < 1e-2
    assert found["complete"] < 1e-5


class SlowToForget(Mixer):
    """Its step is not its forward pass."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.weight = nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight(x)  # type: ignore[no-any-return]

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.weight(x_t) * 1.001, state


class Broken(Mixer):
    """Fails when it is trained."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of order")


def test_a_backbone_that_acts_differently_or_fails_is_refused() -> None:
    names = [f"{__name__}:SlowToForget", f"{__name__}:Broken", "identity"]
    report = measure(tiny(*names, parts=("training",)))
    reasons = {one.model.partition(":")[2]: one.refused for one in report.models}
    assert "acting recurrent off by" in str(reasons["SlowToForget"])
    assert reasons["Broken"] == "raised RuntimeError: out of order"
    assert [one.model for one in report.training] == ["identity"]
