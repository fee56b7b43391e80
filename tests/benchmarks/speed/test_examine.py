"""A model with a wrong kernel, output or acting is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from speed_settings import tiny
from torch import Tensor, nn

from backbench.backbones.contract import Mixer, Spec
from backbench.backbones.kernels import OPERATIONS, Implementation, ScanInputs
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE
from backbench.backbones.kernels.dispatch import Operation
from backbench.backbones.kernels.linear.linear_recurrence import LINEAR_RECURRENCE
from backbench.backbones.kernels.scan.selective_scan import SELECTIVE_SCAN
from backbench.benchmarks.speed.equality import TOLERANCE, Unequal, check_operation
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


def test_every_kernel_equals_its_reference_in_all_its_uses() -> None:
    for operation, one in OPERATIONS.items():
        if operation == "layers":  # for acting, without gradients: tests/backbones/test_fused.py compares it
            continue
        for name in one.here():
            if one.table[name].takes("cpu", torch.float32):
                assert check_operation(operation, name, "cpu") <= TOLERANCE, (operation, name)


@pytest.mark.parametrize(("operation", "use"), [(LINEAR_RECURRENCE, ""), (DIAGONAL_RECURRENCE, " complex")])
def test_a_recurrence_with_a_wrong_gradient_is_refused(
    operation: Operation, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second only for complex numbers."""

    def wrong(first: Any, *rest: Any) -> Any:
        if operation is LINEAR_RECURRENCE:
            return operation.table["chunked"].function(
                first._replace(q=first.q + 1e-3 * (first.q - first.q.detach())), *rest
            )
        off = 1e-3 * (first - first.detach()) if first.is_complex() else 0
        return operation.table["torch"].function(first + off, *rest)

    monkeypatch.setattr(operation, "table", operation.table | {"wrong": Implementation("wrong", wrong)})
    monkeypatch.setattr(operation, "_found", {})
    with pytest.raises(Unequal, match=rf"{operation.name} wrong{use} at 3x37x24x5: gradient of . off by"):
        check_operation(operation.name, "wrong", "cpu")


def test_state_bytes_are_those_of_all_layers_for_one_environment() -> None:
    config = tiny("mamba", "gru", "identity", n_layers=2)
    entries = [Examiner(config).entry(backbone_model(name, config)) for name in config.backbones]
    taps, states, hidden = 3 * 32, 32 * 16, 16
    assert [one.state_bytes for one in entries] == [2 * 4 * (taps + states), 2 * 4 * hidden, 0]


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
