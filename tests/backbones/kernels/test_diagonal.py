"""Every implementation of the diagonal recurrence equals the definition, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients
from torch import Tensor

from backbench.backbones.kernels import OPERATIONS, chosen, diagonal_recurrence
from backbench.backbones.kernels.diagonal import naive, torch_recurrence
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE
from backbench.backbones.kernels.native import loader

FAST = [name for name in DIAGONAL_RECURRENCE.here() if name != "reference"]
TYPES = {torch.float32: 1e-5, torch.complex64: 1e-5, torch.float64: 1e-12, torch.complex128: 1e-12}
CASES = [(name, dtype) for name in FAST for dtype in TYPES if DIAGONAL_RECURRENCE.table[name].takes("cpu", dtype)]
LENGTHS = [1, 2, 7, 60, 257]


def make(dtype: torch.dtype, length: int, constant: bool, batch: int = 3, channels: int = 5) -> list[Tensor]:
    """a, b, initial: decays from -1 to 1, or in the complex unit disc, with exact zeros, ones and minus ones."""
    g = torch.Generator().manual_seed(length)
    wide = torch.complex128 if dtype.is_complex else torch.float64

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=wide)

    a = draw(channels) if constant else draw(batch, length, channels)
    a = a / a.abs().clamp(min=1)
    for channel, value in enumerate((0, 1, -1)[:channels]):
        a[..., channel] = value
    return [t.to(dtype).requires_grad_() for t in (a, draw(batch, length, channels), draw(batch, channels))]


def expected(inputs: list[Tensor]) -> list[Tensor]:
    """The definition's values and gradients, in double precision."""
    wide = torch.complex128 if inputs[0].is_complex() else torch.float64
    return values(naive.diagonal_recurrence, [t.detach().to(wide).requires_grad_() for t in inputs])


def values(function: object, inputs: list[Tensor]) -> list[Tensor]:
    """The states, and the gradients of a, b and initial, under a fixed random weighting."""

    def real(*given: Tensor) -> Tensor:
        h: Tensor = function(*given)  # type: ignore[operator]
        return torch.view_as_real(h).flatten(-2) if h.is_complex() else h

    return values_and_gradients(real, inputs)


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_values_and_gradients_equal_the_definition(name: str, dtype: torch.dtype, constant: bool, length: int) -> None:
    inputs = make(dtype, length, constant)
    fast = values(lambda *given: diagonal_recurrence(*given, implementation=name), inputs)
    assert_equal(fast, expected(inputs), TYPES[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 16, 20, 100])
def test_blocks_of_any_size_equal_the_definition(
    dtype: torch.dtype, constant: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU computes it: all blocks at once, also if the last one is not full."""
    monkeypatch.setattr("backbench.backbones.kernels.diagonal.diagonal_recurrence.block_size", lambda *_: size)
    inputs = make(dtype, 20, constant)
    fast = values(lambda *given: diagonal_recurrence(*given, implementation="torch"), inputs)
    assert_equal(fast, expected(inputs), 1e-12)


def test_a_gpu_starts_a_square_root_of_the_length_in_operations() -> None:
    assert [torch_recurrence.block_size(n, "cuda") for n in (1, 60, 1026)] == [1, 8, 33]
    assert torch_recurrence.block_size(1026, "cpu") == 1026


@pytest.mark.parametrize("size", [7, 1000])
def test_strong_decays_neither_overflow_nor_cancel(size: int) -> None:
    """The product of 1,000 decays of 1e-30 is far below the smallest number; nothing is divided by it."""
    a, b = torch.full((1, 1000, 2), 1e-30), torch.ones(1, 1000, 2)
    states = torch_recurrence.recur(a, b, torch.full((1, 2), 1e30), size)
    torch.testing.assert_close(states[:, 1:], torch.ones(1, 999, 2), rtol=0, atol=0)
    torch.testing.assert_close(states[:, 0], torch.full((1, 2), 2.0))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("width", [1, 3, 16, 37])
def test_any_width_and_layout_equals_the_definition(name: str, dtype: torch.dtype, width: int) -> None:
    """Inputs are views: every second token of a batch that lies in time order, half of a wider product."""
    a, b, initial = make(dtype, 20, False, batch=4, channels=2 * width)
    inputs = [a.detach().transpose(0, 1).contiguous().transpose(0, 1)[:, ::2, :width], b.detach()[:, 1::2, width:]]
    inputs = [t.requires_grad_() for t in (*inputs, initial.detach()[:, :width])]
    fast = values(lambda *given: diagonal_recurrence(*given, implementation=name), inputs)
    assert_equal(fast, expected(inputs), 1e-5)


@pytest.mark.parametrize("name", DIAGONAL_RECURRENCE.here())
def test_pieces_from_the_last_state_equal_one_run(name: str) -> None:
    a, b, initial = (t.detach() for t in make(torch.complex64, 30, False))
    whole = diagonal_recurrence(a, b, initial, name)
    first = diagonal_recurrence(a[:, :11], b[:, :11], initial, name)
    second = diagonal_recurrence(a[:, 11:], b[:, 11:], first[:, -1], name)
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    none = diagonal_recurrence(a, b, None, name)
    torch.testing.assert_close(none, diagonal_recurrence(a, b, torch.zeros_like(initial), name))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_equal_bits_with_and_without_gradients_and_every_time(name: str, dtype: torch.dtype) -> None:
    inputs = make(dtype, 65, True, batch=17, channels=300)
    first = values(lambda *given: diagonal_recurrence(*given, implementation=name), inputs)
    again = values(lambda *given: diagonal_recurrence(*given, implementation=name), inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with torch.no_grad():
        h = diagonal_recurrence(*inputs, implementation=name)
    assert torch.equal(torch.view_as_real(h).flatten(-2) if h.is_complex() else h, first[0])


@pytest.mark.skipif(loader.missing() is not None, reason="no compiled kernels")
def test_every_instruction_set_and_number_of_threads_gives_the_definition() -> None:
    inputs = make(torch.complex64, 70, True, batch=20, channels=150)
    want, threads = expected(inputs), torch.get_num_threads()
    try:
        for name in loader.instruction_sets():
            loader.use(name)
            runs = []
            for count in (1, 3):
                torch.set_num_threads(count)
                runs.append(values(lambda *given: diagonal_recurrence(*given, implementation="cpp"), inputs))
            assert_equal(runs[0], want, 1e-5)
            assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    finally:
        torch.set_num_threads(threads)
        loader.use(loader.instruction_sets()[-1])


def test_parity_of_ten_thousand_bits_by_negative_decays() -> None:
    """h turns its sign at each one: a decay of 1 - 2x, which no recurrence with decays from 0 to 1 can express."""
    bits = torch.randint(2, (2, 10_000, 1), generator=torch.Generator().manual_seed(0))
    for name in DIAGONAL_RECURRENCE.here():
        h = diagonal_recurrence(1.0 - 2 * bits, torch.zeros(bits.shape), torch.ones(2, 1), name)
        assert torch.equal(h < 0, bits.cumsum(1) % 2 == 1)


def test_half_precision_inputs_have_states_of_the_type_of_a() -> None:
    a, b, initial = (t.detach() for t in make(torch.float32, 9, False))
    with torch.autocast("cpu", torch.bfloat16):
        h = diagonal_recurrence(a, b.bfloat16(), initial)
    assert h.dtype is torch.float32
    torch.testing.assert_close(h, diagonal_recurrence(a, b.bfloat16().float(), initial))


def test_auto_takes_the_compiled_form_for_single_precision_only() -> None:
    fast = "torch" if loader.missing() else "cpp"
    assert [chosen("diagonal_recurrence", dtype=dtype) for dtype in TYPES] == [fast, fast, "torch", "torch"]
    assert OPERATIONS["diagonal_recurrence"] is DIAGONAL_RECURRENCE


def test_inputs_that_do_not_fit_are_refused() -> None:
    b = torch.zeros(2, 3, 4)
    for a, initial in ((torch.zeros(3), None), (torch.zeros(2, 3, 1), None), (b, torch.zeros(4))):
        with pytest.raises(ValueError, match="do not fit"):
            diagonal_recurrence(a, b, initial)
    with pytest.raises(ValueError, match="give complex a"):
        diagonal_recurrence(b, b.to(torch.complex64))
