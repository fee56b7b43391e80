"""Every implementation of every operation equals its reference, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import assert_equal, scan_inputs, values_and_gradients
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones import UserError
from backbench.backbones.kernels import (
    OPERATIONS,
    attention,
    causal_conv1d,
    chosen,
    selective_scan,
    selective_scan_step,
)
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.scan import torch_scan
from backbench.backbones.kernels.scan.selective_scan import SELECTIVE_SCAN

SCANS = [name for name in OPERATIONS["selective_scan"].here() if name != "reference"]
DOUBLE = [name for name in SCANS if SELECTIVE_SCAN.table[name].takes("cpu", torch.float64)]
torch.set_num_threads(1)


@pytest.mark.parametrize("implementation", DOUBLE)
@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 25), st.integers(1, 5), st.integers(1, 4)),
    window=st.none() | st.integers(1, 27),
    seed=st.integers(0, 99),
)
def test_scan_equals_the_reference(implementation: str, shape: tuple[int, ...], window: int | None, seed: int) -> None:
    inputs = scan_inputs(*shape, dtype=torch.float64, seed=seed)
    fast = values_and_gradients(lambda *a: selective_scan(*a, window=window, implementation=implementation), inputs)
    slow = values_and_gradients(lambda *a: selective_scan(*a, window=window, implementation="reference"), inputs)
    assert_equal(fast, slow, 1e-12)


@pytest.mark.parametrize("implementation", SCANS)
@pytest.mark.parametrize("length", [1, 2, 20, 60])
@pytest.mark.parametrize("window", [None, 1, 2, 3, 6])
def test_scan_equals_the_reference_in_single_precision(implementation: str, length: int, window: int | None) -> None:
    inputs = scan_inputs(4, length, 16, 8, torch.float32)
    fast = values_and_gradients(lambda *a: selective_scan(*a, window=window, implementation=implementation), inputs)
    slow = values_and_gradients(lambda *a: selective_scan(*a, window=window, implementation="reference"), inputs)
    assert_equal(fast, slow, 1e-5)


@pytest.mark.parametrize("implementation", OPERATIONS["selective_scan"].here())
def test_scan_under_autocast_computes_in_single_precision(implementation: str) -> None:
    """Half-precision inputs, single-precision states."""
    inputs = scan_inputs(2, 9, 4, 3, torch.float32)
    halves = [t.bfloat16() if i in (0, 1, 3, 4) else t for i, t in enumerate(inputs)]
    with torch.autocast("cpu", torch.bfloat16):
        y = selective_scan(*halves, window=3, implementation=implementation)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y, selective_scan(*(t.float() for t in halves), window=3).bfloat16())


@pytest.mark.parametrize("implementation", DOUBLE)
@pytest.mark.parametrize("window", [None, 3])
def test_scan_gradients_equal_finite_differences(implementation: str, window: int | None) -> None:
    inputs = scan_inputs(2, 6, 3, 2, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *a: selective_scan(*a, window=window, implementation=implementation), inputs, atol=1e-7
    )


@pytest.mark.parametrize("implementation", SCANS)
@pytest.mark.parametrize("window", [None, 6])
def test_scan_in_blocks_of_rows_equals_the_reference_and_repeats_bits(
    implementation: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a model's size, with a batch that is not a whole number of blocks; the bits are the same from run to run."""
    monkeypatch.setattr(torch_scan, "BLOCK", 2 * 32 * 16)
    inputs = scan_inputs(5, 60, 32, 16, torch.float32)

    def run(name: str) -> list[Tensor]:
        return values_and_gradients(lambda *a: selective_scan(*a, window=window, implementation=name), inputs)

    first = run(implementation)
    assert_equal(first, run("reference"), 1e-5)
    assert all(torch.equal(a, b) for a, b in zip(first, run(implementation), strict=True))


@pytest.mark.parametrize("implementation", SCANS)
@pytest.mark.parametrize("window", [None, 1, 4])
def test_scan_without_gradients_gives_the_same_bits(implementation: str, window: int | None) -> None:
    """Acting keeps a ring of states only; the values are the same bits."""
    inputs = scan_inputs(2, 23, 4, 3, torch.float32)
    y = selective_scan(*inputs, window=window, implementation=implementation)
    with torch.no_grad():
        assert torch.equal(selective_scan(*inputs, window=window, implementation=implementation), y)


@pytest.mark.filterwarnings("ignore::backbench.backbones.kernels.SlowKernels")
def test_windowed_scan_stays_exact_over_long_sequences() -> None:
    """The window's state is a difference of two states: slow decays make both large beside it."""
    x, dt, A, B, C, D = (t.detach() for t in scan_inputs(1, 2000, 4, 4, torch.float32))
    slow = (x, dt * 1e-2, A * 1e-2, B, C, D)
    expected = selective_scan(*(t.double() for t in slow), window=6, implementation="reference")
    error = (selective_scan(*slow, window=6, implementation="torch") - expected).abs().max() / expected.abs().max()
    assert error < 1e-5


def test_scan_step_is_a_column_of_the_scan() -> None:
    x, dt, A, B, C, D = scan_inputs(2, 9, 3, 2, torch.float64)
    state = torch.zeros(2, 2, 3, dtype=torch.float64)
    columns = []
    for t in range(9):
        y, state = selective_scan_step(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        columns.append(y)
    torch.testing.assert_close(torch.stack(columns, 1), selective_scan(x, dt, A, B, C, D))


def test_a_window_of_one_token_is_no_memory() -> None:
    x, dt, A, B, C, D = scan_inputs(2, 5, 3, 2, torch.float64)
    expected = (B * C).sum(-1, keepdim=True) * dt * x + D * x
    torch.testing.assert_close(selective_scan(x, dt, A, B, C, D, window=1), expected)


@pytest.mark.parametrize("implementation", OPERATIONS["causal_conv1d"].here())
@pytest.mark.parametrize("width", [1, 4])
def test_convolution_equals_the_reference(implementation: str, width: int) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=g).requires_grad_() for s in ((2, 7, 3), (3, width), (3,))]
    x, weight, bias = inputs
    expected = bias + sum(F.pad(x, (0, 0, k, 0))[:, :7] * weight[:, width - 1 - k] for k in range(width))
    torch.testing.assert_close(causal_conv1d(*inputs, implementation=implementation), expected)
    run = [
        values_and_gradients(lambda *a, n=name: causal_conv1d(*a, implementation=n), inputs)
        for name in (implementation, "reference")
    ]
    assert_equal(run[0], run[1], 1e-5)


@pytest.mark.parametrize("implementation", OPERATIONS["attention"].here())
@pytest.mark.parametrize("length", [1, 7])
def test_attention_equals_the_reference(implementation: str, length: int) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, length, 4, generator=g).requires_grad_() for _ in range(3)]
    run = [
        values_and_gradients(lambda *a, n=name: attention(*a, implementation=n), inputs)
        for name in (implementation, "reference")
    ]
    assert_equal(run[0], run[1], 1e-5)
    torch.testing.assert_close(run[0][0][:, :, 0], inputs[2][:, :, 0])  # the first token sees itself alone


def test_chosen_names_the_implementation_that_runs() -> None:
    assert chosen("selective_scan") == ("torch" if loader.missing() else "cpp")
    assert chosen("selective_scan", dtype=torch.float64) == "torch"
    assert chosen("attention") == "sdpa"
    assert chosen("causal_conv1d") in OPERATIONS["causal_conv1d"].here()
    assert all("reference" in op.here() for op in OPERATIONS.values())
    assert chosen("attention", "reference") == "reference"
    with pytest.raises(UserError, match="no implementation 'refrence'; did you mean 'reference'"):
        chosen("attention", "refrence")
    with pytest.raises(UserError, match="did you mean 'attention'"):
        chosen("atention")


def test_a_window_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="window=0"):
        selective_scan(*scan_inputs(1, 2, 1, 1, torch.float32), window=0)
