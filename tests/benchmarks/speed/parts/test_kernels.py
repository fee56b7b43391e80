"""Other packages' scans."""

from __future__ import annotations

import pytest
import torch

from backbench.backbones.kernels import selective_scan
from backbench.benchmarks.speed.equality import operation_inputs, values_and_gradients
from backbench.benchmarks.speed.parts.kernels import OTHER_SCANS


@pytest.mark.parametrize("name", OTHER_SCANS)
def test_scans_of_other_packages_equal_ours(name: str) -> None:
    inputs = list(operation_inputs("selective_scan", (2, 13, 6, 4), "cpu").values())
    ours = values_and_gradients(selective_scan, inputs)
    for a, b in zip(values_and_gradients(OTHER_SCANS[name], inputs), ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
