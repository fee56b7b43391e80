"""Triton's kernels against the reference, in Triton's interpreter. test_triton.py runs this in its own process."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import assert_equal, scan_inputs, values_and_gradients
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels.conv.causal_conv1d import triton as causal_conv1d
from backbench.backbones.kernels.conv.naive import causal_conv1d as conv_reference
from backbench.backbones.kernels.scan import naive as naive_scan
from backbench.backbones.kernels.scan.naive import ScanInputs
from backbench.backbones.kernels.scan.selective_scan import triton as selective_scan

WINDOWS = [None, 1, 2, 3, 6, 24, 25, 99]


def scanned(inputs: list[Tensor], window: int | None) -> list[Tensor]:
    return values_and_gradients(lambda *a: selective_scan(ScanInputs(*a, window)), inputs)


def expected(inputs: list[Tensor], window: int | None) -> list[Tensor]:
    return values_and_gradients(lambda *a: naive_scan.selective_scan(ScanInputs(*a, window)), inputs)


# The second has three blocks of channels, the last of them not full; the others pad states or channels.
@pytest.mark.parametrize("shape", [(3, 25, 5, 3), (1, 25, 37, 16), (1, 25, 1, 1)])
@pytest.mark.parametrize("window", WINDOWS)
def test_scan_equals_the_reference(shape: tuple[int, ...], window: int | None) -> None:
    inputs = scan_inputs(*shape, dtype=torch.float32)
    assert_equal(scanned(inputs, window), expected(inputs, window), 1e-5)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5)),
    window=st.none() | st.integers(1, 14),
    seed=st.integers(0, 99),
)
def test_scan_at_odd_shapes_equals_the_reference(shape: tuple[int, ...], window: int | None, seed: int) -> None:
    inputs = scan_inputs(*shape, dtype=torch.float32, seed=seed)
    assert_equal(scanned(inputs, window), expected(inputs, window), 1e-5)


@pytest.mark.parametrize("state", [33, 129, 256])
@pytest.mark.parametrize("window", [None, 3])
def test_scan_with_many_states_equals_the_reference(state: int, window: int | None) -> None:
    inputs = scan_inputs(2, 7, 3, state, torch.float32)
    assert_equal(scanned(inputs, window), expected(inputs, window), 1e-5)


@pytest.mark.parametrize("window", [None, 6])
def test_scan_gives_the_same_bits_twice_and_for_any_strides(window: int | None) -> None:
    inputs = scan_inputs(2, 20, 19, 16, torch.float32)
    first = scanned(inputs, window)
    assert all(torch.equal(a, b) for a, b in zip(first, scanned(inputs, window), strict=True))
    strided = [t.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for t in inputs]
    assert not strided[0].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(first, scanned(strided, window), strict=True))
    with torch.no_grad():  # no states are kept
        assert torch.equal(selective_scan(ScanInputs(*inputs, window)), first[0])


def test_windowed_scan_stays_exact_with_slow_decays() -> None:
    """The kernel subtracts tokens that left the window. With slow decays, rounding errors last long."""
    x, dt, A, B, C, D = (t.detach() for t in scan_inputs(1, 300, 2, 4, torch.float32))
    slow = [t.requires_grad_() for t in (x, dt * 1e-2, A * 1e-2, B, C, D)]
    double = [t.detach().double().requires_grad_() for t in slow]
    y, *gradients = scanned(slow, 6)
    expected_y, *expected_gradients = expected(double, 6)
    assert_equal([y], [expected_y], 1e-5)
    assert_equal(gradients, expected_gradients, 5e-5)  # that of A is a small difference of large sums here


def conv_inputs(batch: int, length: int, channels: int, width: int, dtype: torch.dtype) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    shapes = ((batch, length, channels), (channels, width), (channels,))
    return [torch.randn(shape, generator=g).to(dtype).requires_grad_() for shape in shapes]


# The third has three blocks of time and two of channels.
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 3), (2, 70, 67)])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_convolution_equals_the_reference(shape: tuple[int, int, int], width: int) -> None:
    inputs = conv_inputs(*shape, width, torch.float32)
    first = values_and_gradients(causal_conv1d, inputs)
    assert_equal(first, values_and_gradients(conv_reference, inputs), 1e-5)
    assert all(torch.equal(a, b) for a, b in zip(first, values_and_gradients(causal_conv1d, inputs), strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_convolution_in_half_precision_equals_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    inputs = conv_inputs(2, 40, 5, 4, dtype)
    single = [t.detach().float().requires_grad_() for t in inputs]
    assert_equal(values_and_gradients(causal_conv1d, inputs), values_and_gradients(conv_reference, single), tolerance)


def test_convolution_takes_strided_inputs() -> None:
    x, weight, bias = (t.detach() for t in conv_inputs(2, 9, 6, 4, torch.float32))
    half = x.chunk(2, dim=-1)[1]
    y = causal_conv1d(half, weight[:3], bias[:3])
    torch.testing.assert_close(y, F.conv1d(F.pad(half.mT, (3, 0)), weight[:3, None], bias[:3], groups=3).mT)
