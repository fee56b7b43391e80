"""The compiled CPU kernels equal the definition for every instruction set, shape and window, to the bit on any threads.

The expected values come from ``torch`` in double precision, which test_dispatch.py compares with the reference.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backbench.backbones import UserError
from backbench.backbones.kernels import ScanInputs, causal_conv1d, selective_scan, selective_scan_extend
from backbench.backbones.kernels.native import loader

if loader.missing():
    pytest.skip(f"no compiled kernels: {loader.missing()}", allow_module_level=True)  # no compiler here

SETS = loader.instruction_sets()
TOLERANCE = 1e-5  # of each tensor's largest entry
NAMES = ("y", "x", "dt", "A", "B", "C", "D", "gate")
STATES, CHANNELS, BATCHES = (1, 3, 8, 16, 32, 64), (1, 5, 15, 17, 33, 256), (1, 2, 17, 64)
LENGTHS = (1, 2, 31, 32, 33, 60, 61, 64, 65, 129, 1000)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    loader.use(SETS[-1])


def make(
    batch: int, length: int, channels: int, state: int, *, softplus: bool = False, kind: str = "mixed", seed: int = 0
) -> list[Tensor]:
    """x, dt, A, B, C, D, gate. ``mixed``: dt from 1e-3 to 1, slow and fast decays, as in a model. ``slow``: all numbers
    positive and decays so slow that everything adds up. ``fast``: nearly nothing is remembered."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, gate = randn(batch, length, channels), randn(batch, length, channels)
    B, C = randn(batch, length, state), randn(batch, length, state)
    A = -torch.exp(randn(channels, state))
    dt = 10 ** (-3 * torch.rand(batch, length, channels, generator=g, dtype=torch.float64))
    if kind == "slow":
        x, B, C, gate, dt, A = x.abs(), B.abs(), C.abs(), gate.abs(), 1e-3 + 1e-3 * dt, 0.1 * A
    elif kind == "fast":
        dt, A = 1 + dt, 10 * A
    if softplus:
        dt = torch.log(torch.expm1(dt))
    return [tensor.float() for tensor in (x, dt, A, B, C, randn(channels), gate)]


def run(inputs: list[Tensor], *, gated: bool = True, positive: bool = False, **options: Any) -> list[Tensor]:
    """y, and the gradient of each input under a fixed random (or positive) weighting of y."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    y = selective_scan(*inputs[:6], gate=inputs[6] if gated else None, **options)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)
    loss = (y * (weight.abs() if positive else weight)).sum()
    return [y.detach(), *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)]


def truth(inputs: list[Tensor], **options: Any) -> list[Tensor]:
    return run([tensor.double() for tensor in inputs], implementation="torch", **options)


def assert_close(actual: list[Tensor], expected: list[Tensor], case: object = "") -> None:
    for name, a, e in zip(NAMES, actual, expected, strict=True):
        assert a.dtype is torch.float32
        assert a.shape == e.shape
        if e.numel():
            error = float((a.double() - e).abs().max() / e.abs().max().clamp(min=1e-3))
            few = e.numel() < 8  # the largest of a few sums may be one whose terms cancel
            assert error <= (10 * TOLERANCE if few else TOLERANCE), f"{case}: {name} is off by {error:.1e}"


def on_every_set(inputs: list[Tensor], case: object, **options: Any) -> None:
    expected = truth(inputs, **options)
    for name in SETS:
        loader.use(name)
        assert_close(run(inputs, implementation="cpp", **options), expected, (name, case, options))


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_and_window_equals_the_reference(length: int) -> None:
    """Every length with every window; states, channels, batches, gate and softplus take turns."""
    windows = {None, *range(1, 9), 20, length - 1, length, length + 5} - {0}
    for turn, window in enumerate(sorted(windows, key=lambda w: w or 0), LENGTHS.index(length)):
        state, channels, batch = STATES[turn % 6], CHANNELS[turn // 2 % 6], BATCHES[turn % 4]
        while batch * length * channels * state > 1_500_000 and (batch > 1 or channels > 33):
            batch, channels = (1, channels) if batch > 1 else (1, 33)
        softplus, kind = turn % 2 == 0, ("mixed", "slow", "mixed", "fast")[turn // 3 % 4]
        inputs = make(batch, length, channels, state, softplus=softplus, kind=kind, seed=turn)
        case = (batch, length, channels, state, kind)
        on_every_set(inputs, case, window=window, gated=turn // 2 % 2 == 0, softplus=softplus)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_width_equals_the_reference(channels: int, state: int) -> None:
    for turn, window in enumerate((None, 3, 9)):
        inputs = make(BATCHES[turn], 35, channels, state, softplus=True, seed=turn)
        on_every_set(inputs, (channels, state), window=window, softplus=True)


@settings(max_examples=60, deadline=None)
@given(
    # Five channels and three states at least: the largest of so many numbers is not one that happens to cancel.
    shape=st.tuples(st.integers(1, 20), st.integers(1, 80), st.integers(5, 40), st.integers(3, 20)),
    window=st.none() | st.integers(1, 90),
    gated=st.booleans(),
    softplus=st.booleans(),
    kind=st.sampled_from(("mixed", "slow", "fast")),
    seed=st.integers(0, 99),
)
def test_random_shapes_equal_the_reference(
    shape: tuple[int, int, int, int], window: int | None, gated: bool, softplus: bool, kind: str, seed: int
) -> None:
    inputs = make(*shape, softplus=softplus, kind=kind, seed=seed)
    on_every_set(inputs, (*shape, kind, seed), window=window, gated=gated, softplus=softplus)


@pytest.mark.parametrize("window", [None, 2, 6, 7, 20, 500])
def test_slow_decays_stay_exact_over_long_sequences(window: int | None) -> None:
    """Every term positive, remembered for the whole window: what a difference of two scans would lose shows here."""
    inputs = make(2, 1000, 17, 4, kind="slow")
    on_every_set(inputs, "slow", window=window, positive=True)


@pytest.mark.parametrize("window", [None, 20])
def test_constant_slow_decay_stays_exact(window: int | None) -> None:
    """The same decay at every token: an exponential that is off by little in one direction is off by much in y."""
    inputs = make(1, 1000, 40, 4, kind="slow")
    inputs[1] = torch.linspace(1e-2, 0.2, 40).expand(1, 1000, 40)
    inputs[2] = torch.full((40, 4), -0.5)
    on_every_set(inputs, "constant", window=window, positive=True)


Change = Callable[[list[Tensor]], object]
EXTREMES: dict[str, tuple[bool, Change]] = {
    "dt is zero": (False, lambda i: i[1].zero_()),
    "dt is zero now and then": (False, lambda i: i[1][:, ::3].zero_()),
    "dt is minus infinity before softplus": (True, lambda i: i[1].fill_(-torch.inf)),
    "dt is minus infinity at first": (True, lambda i: i[1][:, :9].fill_(-torch.inf)),
    "decays underflow": (False, lambda i: i[1].mul_(1e4)),
    "decays underflow, after softplus": (True, lambda i: i[1].fill_(1e4)),
    "decays vanish altogether": (False, lambda i: i[1].fill_(1e8)),
    "A is zero": (False, lambda i: i[2].zero_()),
    "all inputs are zero": (False, lambda i: [tensor.zero_() for tensor in i]),
    "x is zero but once": (False, lambda i: i[0][:, 1:].zero_()),
    "the gate is far out": (False, lambda i: i[6].mul_(1e30)),
}


@pytest.mark.parametrize("window", [None, 1, 3, 9])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_inputs_equal_the_reference(extreme: str, window: int | None) -> None:
    softplus, change = EXTREMES[extreme]
    inputs = make(2, 40, 17, 5, softplus=softplus)
    change(inputs)
    on_every_set(inputs, extreme, window=window, softplus=softplus, gated=extreme == "the gate is far out")


@pytest.mark.parametrize("window", [None, 3, 9])
def test_nan_inputs_give_nan_outputs(window: int | None) -> None:
    """A run that has diverged must show it."""
    for index in (0, 1, 3, 4, 6):
        inputs = make(1, 20, 5, 3, softplus=True)
        inputs[index][0, 10, 1] = torch.nan
        for name in SETS:
            loader.use(name)
            assert selective_scan(*inputs[:6], gate=inputs[6], softplus=True, window=window).isnan().any()


@pytest.mark.parametrize("window", [None, 2, 3, 6, 7, 20])  # a window of 1 is PyTorch's own arithmetic
def test_bits_do_not_depend_on_the_number_of_threads(window: int | None) -> None:
    """Large enough that each thread gets its own; the sums over the batch are what could differ."""
    inputs = make(23, 70, 64, 16, softplus=True)
    for name in SETS:
        loader.use(name)
        first: list[Tensor] = []
        for threads in (1, 1, 2, 3, 5):
            torch.set_num_threads(threads)
            bits = run(inputs, window=window, softplus=True, implementation="cpp")
            first = first or bits
            assert all(torch.equal(a, b) for a, b in zip(first, bits, strict=True)), (name, threads)


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """The same numbers, laid out in other ways."""
    wide = torch.full((*tensor.shape[:-1], 3 * tensor.shape[-1]), torch.nan)
    part = wide[..., 1 : 1 + tensor.shape[-1]]
    sparse = torch.full((2 * tensor.shape[0], 3 * tensor.shape[1], *tensor.shape[2:]), torch.nan)
    return {
        "a slice of the last dimension": part.copy_(tensor),
        "time before batch": tensor.transpose(0, 1).contiguous().transpose(0, 1),
        "the last dimension outermost": tensor.transpose(0, -1).contiguous().transpose(0, -1),
        "every second row and third token": sparse[::2, 1::3].copy_(tensor),
    }


@pytest.mark.parametrize("window", [None, 3, 9])
@pytest.mark.parametrize("layout", layouts(torch.zeros(1, 1, 1)))
def test_memory_layout_does_not_change_bits(layout: str, window: int | None) -> None:
    inputs = make(3, 33, 17, 5)
    others = [layouts(t)[layout] if t.dim() == 3 else t.t().contiguous().t() if t.dim() == 2 else t for t in inputs]
    expected = run(inputs, window=window, implementation="cpp")
    assert all(map(torch.equal, run(others, window=window, implementation="cpp"), expected))


def test_expanded_inputs_and_gradients_give_the_same_bits() -> None:
    """Stride zero, of inputs and of the gradient that ``sum`` sends back."""
    inputs = make(1, 33, 17, 5)
    expanded = [t.expand(3, *t.shape[1:]) if t.dim() == 3 else t for t in inputs]
    leaves = [t.clone().requires_grad_() for t in expanded], [t.detach().requires_grad_() for t in expanded]
    grads = [torch.autograd.grad(selective_scan(*i[:6], gate=i[6], window=9).sum(), i) for i in leaves]
    assert all(map(torch.equal, *grads))


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (3, 0), (0, 0)])
@pytest.mark.parametrize("window", [None, 3, 9])
def test_empty_inputs_give_empty_outputs_and_zero_gradients(batch: int, length: int, window: int | None) -> None:
    """An empty output and gradients of zero; the reference does the same for no rows, and cannot do no tokens."""
    inputs = make(batch, length, 17, 5)
    y, *gradients = run(inputs, window=window, implementation="cpp")
    assert y.shape == (batch, length, 17)
    assert all(g.shape == i.shape and not g.any() for g, i in zip(gradients, inputs, strict=True))
    conv = causal_conv1d(inputs[0].requires_grad_(), torch.ones(17, 4), torch.ones(17), silu=True, implementation="cpp")
    assert torch.autograd.grad(conv.sum(), inputs[0])[0].shape == conv.shape == (batch, length, 17)


def test_half_precision_is_cast_and_double_refused() -> None:
    inputs = make(2, 40, 17, 5, softplus=True)
    halves = [t.bfloat16() if i != 2 else t for i, t in enumerate(inputs)]
    y = selective_scan(*halves[:6], gate=halves[6], softplus=True, window=3, implementation="cpp")
    in_full = selective_scan(*(t.float() for t in halves[:6]), gate=halves[6].float(), softplus=True, window=3)
    assert y.dtype is torch.bfloat16
    assert torch.equal(y, in_full.bfloat16())
    with pytest.raises(UserError, match="'cpp' takes cpu, float32, not float64 on cpu; use auto") as refused:
        selective_scan(*(t.double() for t in inputs[:6]), implementation="cpp")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", range(7))
def test_shapes_that_do_not_fit_are_refused(wrong: int) -> None:
    inputs = make(2, 40, 17, 5)
    inputs[wrong] = inputs[wrong][..., :-1]
    with pytest.raises(ValueError, match="do not fit"):
        selective_scan(*inputs[:6], gate=inputs[6], implementation="cpp")


@pytest.mark.parametrize("implementation", ["cpp", "torch"])
@pytest.mark.parametrize("size", [1, 2, 7, 32, 33, 70])
def test_pieces_are_columns_of_the_scan(implementation: str, size: int) -> None:
    inputs = make(3, 70, 17, 5, softplus=True)
    x, dt, A, B, C, D, gate = inputs
    whole = selective_scan(*inputs[:6], gate=gate, softplus=True)
    for name in SETS if implementation == "cpp" else SETS[-1:]:
        loader.use(name)
        state, pieces = torch.zeros(3, 5, 17), []
        with torch.no_grad():
            for start in range(0, 70, size):
                now = slice(start, start + size)
                piece = ScanInputs(x[:, now], dt[:, now], A, B[:, now], C[:, now], D, None, gate[:, now], True)
                y, state = selective_scan_extend(piece, state, implementation)
                pieces.append(y)
        error = (torch.cat(pieces, 1) - whole).abs().max() / whole.abs().max()
        assert error < TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(5, 40)),
    taps=st.integers(1, 9),
    silu=st.booleans(),
)
def test_convolution_of_any_shape_equals_the_reference(shape: tuple[int, int, int], taps: int, silu: bool) -> None:
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(s, generator=g).requires_grad_() for s in (shape, (shape[2], taps), shape[2:])]
    weight = torch.randn(shape, generator=g)

    def both(implementation: str, dtype: torch.dtype) -> list[Tensor]:
        y = causal_conv1d(*(t.to(dtype) for t in inputs), silu=silu, implementation=implementation)
        return [y, *torch.autograd.grad((y * weight.to(dtype)).sum(), inputs)]

    expected = both("reference", torch.float64)
    for name in SETS:
        loader.use(name)
        for a, e in zip(both("cpp", torch.float32), expected, strict=True):
            assert float((a - e).detach().abs().max() / e.detach().abs().max()) <= TOLERANCE


def test_forked_process_gives_the_same_bits() -> None:
    """As a data loader's workers are made. Threads that the parent had are not in the child, and none are missed."""
    inputs = make(16, 70, 64, 16)
    torch.set_num_threads(2)
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)  # it fills new memory, with PyTorch's threads
    expected = selective_scan(*inputs[:6], implementation="cpp")
    child = os.fork()
    if child == 0:
        same = False
        try:
            signal.alarm(20)  # what waits for a thread that is not there waits for ever
            y = selective_scan(*inputs[:6], implementation="cpp")
            torch.set_num_threads(1)  # PyTorch's own threads do not survive a fork
            same = torch.equal(y, expected)
        finally:
            os._exit(0 if same else 1)
    torch.use_deterministic_algorithms(deterministic)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("wrong", ["few rows", "transposed", "double", "half-precision x"])
def test_pieces_that_do_not_fit_are_refused_or_cast(wrong: str) -> None:
    inputs, state = make(2, 6, 17, 5)[:6], torch.zeros(2, 5, 17)
    if wrong == "half-precision x":
        inputs[0] = inputs[0].bfloat16()
        with torch.no_grad():
            y, _ = selective_scan_extend(ScanInputs(*inputs), state, "cpp")
        assert torch.equal(y.float(), selective_scan(*inputs).float())
        return
    state = {"few rows": state[:1], "transposed": state.transpose(1, 2), "double": state.double()}[wrong]
    with torch.no_grad(), pytest.raises(ValueError, match="state"):
        selective_scan_extend(ScanInputs(*inputs), state, "cpp")
