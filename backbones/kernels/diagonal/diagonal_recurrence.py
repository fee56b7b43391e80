"""The diagonal recurrence h_t = a_t h_{t-1} + b_t, for each channel alone: LRU, S5, RG-LRU and minGRU stand on it.

Layout: b (batch, length, channels); a of the same shape, or (channels,) if it is constant in time; the state before the
first token (batch, channels). Real or complex numbers, with |a| up to 1, negative and zero included.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from backbench.backbones.flops import priced
from backbench.backbones.kernels.diagonal import naive
from backbench.backbones.kernels.diagonal.torch_recurrence import DiagonalRecurrence, block_size
from backbench.backbones.kernels.dispatch import Implementation, Operation
from backbench.backbones.kernels.native import loader
from backbench.backbones.kernels.native.operators import operator


@priced(lambda a, b, *_, **__: b.shape[0] * b.shape[1] * naive.of_recurrence(b.shape[2], a.is_complex()))
def diagonal_recurrence(a: Tensor, b: Tensor, initial: Tensor | None = None, implementation: str = "auto") -> Tensor:
    """Every state h_t, (batch, length, channels), from ``initial``, by default zero.

    Computes in the type of ``a``, also under autocast, because states multiply rounding errors. Raises ValueError if
    the inputs do not fit each other, UserError if there is no such implementation.
    """
    fits = b.dim() == 3 and a.shape in (b.shape, b.shape[2:])
    if not fits or (initial is not None and initial.shape != (len(b), b.shape[2])):
        shapes = ", ".join(str(tuple(t.shape)) for t in (a, b, initial) if t is not None)
        raise ValueError(f"diagonal_recurrence: the shapes of a, b, initial do not fit each other: {shapes}")
    if not a.is_complex() and (b.is_complex() or (initial is not None and initial.is_complex())):
        raise ValueError("diagonal_recurrence: a is real, and b or initial is complex; give complex a")
    entry = DIAGONAL_RECURRENCE.pick(implementation, a)
    with torch.autocast(b.device.type, enabled=False):
        return entry.function(a, b.to(a.dtype), None if initial is None else initial.to(a.dtype))


def _or_zeros(initial: Tensor | None, b: Tensor) -> Tensor:
    return b.new_zeros(b.shape[0], b.shape[2]) if initial is None else initial


def reference(a: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """The recurrence, written down."""
    return naive.diagonal_recurrence(a, b, _or_zeros(initial, b))


def by_hand(a: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """The same with a backward pass written by hand, and in blocks of tokens on a GPU."""
    size = block_size(b.shape[1], b.device.type)
    return DiagonalRecurrence.apply(a, b, _or_zeros(initial, b), size)  # type: ignore[no-any-return, no-untyped-call]


def _numbers(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, a complex channel as two, with the last dimension contiguous."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj()).flatten(-2)
    return loader.innermost(tensor)


def _arguments(a: Tensor, like: Tensor, initial: Tensor | None, is_complex: bool) -> loader.DiagonalArguments:
    """The library's view of decays and initial state, as numbers, which must outlive the call."""
    constant = a.dim() == 1
    decays = loader.Rows(a.data_ptr(), 0, 0) if constant else loader.rows(a)
    return loader.DiagonalArguments(*like.shape, int(is_complex), int(constant), decays, loader.pointer(initial))


def _states(a: Tensor, b: Tensor, initial: Tensor | None, is_complex: bool) -> Tensor:
    """The states as numbers, (batch, length, width), of inputs that are numbers; without gradients."""
    h = torch.empty(b.shape)
    forward = loader.DiagonalForward(_arguments(a, b, initial, is_complex), loader.rows(b), h.data_ptr())
    loader.run("diagonal_forward", ctypes.byref(forward))
    return h


class DiagonalRecurrenceCpp(torch.autograd.Function):
    """The numbers of a, b and initial -> those of every state, which it saves with the decays."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, initial: Tensor | None, is_complex: bool) -> Tensor:
        a, b = loader.innermost(a), loader.innermost(b)
        initial = None if initial is None else initial.contiguous()
        h = _states(a, b, initial, is_complex)
        ctx.save_for_backward(a, initial, h)
        ctx.is_complex = is_complex
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        a, initial, h = ctx.saved_tensors
        dh = loader.innermost(dh)
        inputs = _arguments(a, h, initial, ctx.is_complex)
        groups = loader.library().backbench_groups(len(h))
        da = torch.zeros(groups, h.shape[2]) if a.dim() == 1 else torch.zeros(h.shape)
        db, dinitial = torch.empty(h.shape), None if initial is None else torch.zeros(initial.shape)
        pointers = (loader.pointer(t) for t in (h, da, db, dinitial))
        backward = loader.DiagonalBackward(inputs, loader.rows(dh), *pointers)
        loader.run("diagonal_backward", ctypes.byref(backward))
        return da.sum(0) if a.dim() == 1 else da, db, dinitial, None


@operator("diagonal_recurrence(Tensor a, Tensor b, Tensor? initial, bool is_complex) -> Tensor", like="b")
def _operator(a: Tensor, b: Tensor, initial: Tensor | None, is_complex: bool) -> Tensor:
    first = None if initial is None else initial.contiguous()
    return _states(loader.innermost(a), loader.innermost(b), first, is_complex)


def cpp(a: Tensor, b: Tensor, initial: Tensor | None) -> Tensor:
    """Compiled for the CPU, one pass over the tokens in each direction."""
    is_complex = a.is_complex()
    numbers = (_numbers(a), _numbers(b), None if initial is None else _numbers(initial).contiguous())
    h: Any
    if torch.compiler.is_exporting():
        h = _operator(*numbers, is_complex)
    elif torch.is_grad_enabled():
        h = DiagonalRecurrenceCpp.apply(*numbers, is_complex)  # type: ignore[no-untyped-call]
    else:
        h = _states(*numbers, is_complex)
    return torch.view_as_complex(h.unflatten(-1, (-1, 2))) if is_complex else h


DIAGONAL_RECURRENCE = Operation(
    "diagonal_recurrence",
    Implementation("reference", reference),
    Implementation("torch", by_hand),
    Implementation("cpp", cpp, ("cpu",), (torch.float32, torch.complex64), missing=loader.missing),
)
