"""On a GPU: every implementation that can run equals the reference, Triton's bits repeat, and a model trains.

Run with ``pytest -m gpu``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, scan_inputs, values_and_gradients
from torch import Tensor

from backbench.backbones.kernels import (
    OPERATIONS,
    ScanInputs,
    attention,
    causal_conv1d,
    chosen,
    diagonal_recurrence,
    selective_scan,
)
from backbench.backbones.kernels.attention.naive import attention as attention_reference
from backbench.backbones.kernels.conv.naive import causal_conv1d as conv_reference
from backbench.backbones.kernels.diagonal.naive import diagonal_recurrence as diagonal_reference
from backbench.backbones.kernels.scan.naive import selective_scan as scan_reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]
DEVICE = "cuda"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def here(operation: str) -> Iterator[tuple[str, torch.dtype]]:
    """Each implementation that can run on the GPU, with each number type that it takes."""
    table = OPERATIONS[operation].table
    for name in OPERATIONS[operation].here():
        for dtype in TOLERANCE:
            if table[name].takes(DEVICE, dtype):
                yield name, dtype


def draw(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=g).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def double(inputs: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().cpu().double().requires_grad_() for tensor in inputs]


def compare(actual: Callable[..., Tensor], expected: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """Against the reference in float64, on the CPU, with the same inputs and the same weighting of the output."""
    reference = values_and_gradients(expected, double(inputs))
    weight = torch.randn(reference[0].shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    y = actual(*inputs)
    gradients = torch.autograd.grad((y * weight.to(y)).sum(), inputs, allow_unused=True, materialize_grads=True)
    assert_equal([t.detach().cpu().double() for t in (y, *gradients)], reference, TOLERANCE[inputs[0].dtype])


@pytest.mark.parametrize("name", [name for name, dtype in here("selective_scan") if dtype is torch.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 25, 5, 3), (4, 60, 37, 16), (2, 61, 64, 129)])
@pytest.mark.parametrize("window", [None, 1, 2, 3, 6, 99])
def test_scan(name: str, shape: tuple[int, ...], window: int | None) -> None:
    if name == "mamba_ssm" and window is not None and window < shape[1]:
        pytest.skip("mamba_ssm has no window")  # that package lacks the case
    inputs = [t.detach().to(DEVICE).requires_grad_() for t in scan_inputs(*shape, dtype=torch.float32)]
    compare(
        lambda *a: selective_scan(*a, window=window, implementation=name),
        lambda *a: scan_reference(ScanInputs(*a, window)),
        inputs,
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 25, 5), (4, 1026, 37)])
@pytest.mark.parametrize("constant", [False, True])
def test_diagonal_recurrence(shape: tuple[int, int, int], constant: bool) -> None:
    a, b, initial = draw(torch.float32, shape[2:] if constant else shape, shape, shape[::2])
    a = a.detach().tanh().requires_grad_()
    compare(lambda *given: diagonal_recurrence(*given, implementation="torch"), diagonal_reference, [a, b, initial])


@pytest.mark.parametrize(("name", "dtype"), list(here("causal_conv1d")))
@pytest.mark.parametrize("shape", [(2, 7, 3), (4, 70, 136)])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_convolution(name: str, dtype: torch.dtype, shape: tuple[int, int, int], width: int) -> None:
    if name == "causal_conv1d" and width not in (2, 3, 4):
        pytest.skip("causal_conv1d takes 2 to 4 taps")  # that package lacks the case
    inputs = draw(dtype, shape, (shape[2], width), (shape[2],))
    compare(lambda *a: causal_conv1d(*a, implementation=name), conv_reference, inputs)


@pytest.mark.parametrize(("name", "dtype"), list(here("attention")))
@pytest.mark.parametrize("length", [7, 60])
def test_attention(name: str, dtype: torch.dtype, length: int) -> None:
    inputs = draw(dtype, *[(2, 3, length, 32)] * 3)
    compare(lambda *a: attention(*a, implementation=name), attention_reference, inputs)


@pytest.mark.parametrize("window", [None, 6])
def test_triton_gives_the_same_bits_every_time(window: int | None) -> None:
    if "triton" not in OPERATIONS["selective_scan"].here():
        pytest.skip(str(OPERATIONS["selective_scan"].table["triton"].missing()))
    assert chosen("selective_scan", device=DEVICE) == chosen("causal_conv1d", device=DEVICE) == "triton"
    scan = [t.detach().to(DEVICE).requires_grad_() for t in scan_inputs(64, 60, 256, 16, torch.float32)]
    conv = draw(torch.float32, (64, 60, 256), (256, 4), (256,))

    def run(function: Any, inputs: list[Tensor]) -> list[Tensor]:
        y = function(*inputs)
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    runs: list[tuple[Any, list[Tensor]]] = [
        (lambda *a: selective_scan(*a, window=window, implementation="triton"), scan),
        (lambda *a: causal_conv1d(*a, implementation="triton"), conv),
    ]
    for function, inputs in runs:
        first = run(function, inputs)
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(first, run(function, inputs), strict=True))


@pytest.mark.usefixtures("hopper_store")
@pytest.mark.parametrize("bf16", [False, True])
def test_gloma_trains(tiny_cell: Callable[..., Any], tmp_path: Path, bf16: bool) -> None:
    from backbench.benchmarks.run.cell import run_cell

    cell = tiny_cell("gloma", train__steps=100, train__lr=3e-3, train__evaluations=1, train__bf16=bf16)
    record = run_cell(cell, tmp_path, DEVICE, command=["test"])
    assert record.failure is None
    assert record.provenance.device == DEVICE
    losses = [loss for _, loss in record.curve.loss]
    assert losses[-1] < 0.8 * losses[0]
