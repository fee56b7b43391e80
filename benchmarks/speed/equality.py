"""Equality with the reference: a kernel is timed only if its values and gradients equal the reference's."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels import (
    OPERATIONS,
    Recurrence,
    attention,
    causal_conv1d,
    diagonal_recurrence,
    linear_recurrence,
    selective_scan,
)

TOLERANCE, TOLERANCE_BF16 = 1e-5, 1e-2  # largest allowed error, relative to the largest entry of each tensor
SHAPES = ((3, 37, 24, 5), (2, 60, 256, 16))  # batch, length, channels, state: an odd shape, and a model's
EXACT = ("A", "D", "a", "g")  # decays, which stay in single precision under autocast
Shape = tuple[int, int, int, int]
Function = Callable[..., Tensor]


class Unequal(Exception):
    """An equality test failed. The message says which test, and by how much."""


def largest_error(
    actual: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str], where: str = "", bf16: bool = False
) -> float:
    """The largest error of all tensors, infinite for NaN. Unequal: more than the tolerance; names the tensor."""
    errors = {}
    for name, a, e in zip(names, actual, expected, strict=True):
        scale = e.detach().abs().max().clamp(min=1e-7)
        error = float((a.detach().to(e) - e.detach()).abs().max() / scale)
        errors[name] = error if error == error else float("inf")
    worst, largest = max(errors.items(), key=lambda item: item[1])
    tolerance = TOLERANCE_BF16 if bf16 else TOLERANCE
    if largest > tolerance:
        raise Unequal(f"{where}{worst} off by {largest:.1e} of its largest entry, allowed {tolerance:.0e}")
    return largest


def values_and_gradients(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output, and the gradient of every input under a fixed random weighting of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    y = function(*leaves)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = (y * weight.to(y.device, y.dtype)).sum()
    return [y, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


def operation_inputs(operation: str, shape: Shape, device: str) -> dict[str, Tensor]:
    """Inputs of ``operation`` by name, for (batch, length, channels, state)."""
    batch, length, channels, state = shape
    randn = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    if operation == "selective_scan":  # slow and fast decays, as in a model
        dt = F.softplus(2 * randn(batch, length, channels) - 4)
        A = -torch.exp(randn(channels, state))
        B, C = randn(batch, length, state), randn(batch, length, state)
        made = {"x": randn(batch, length, channels), "dt": dt, "A": A, "B": B, "C": C, "D": randn(channels)}
    elif operation == "causal_conv1d":
        made = {"x": randn(batch, length, channels), "weight": randn(channels, 4), "bias": randn(channels)}
    elif operation == "diagonal_recurrence":
        made = {"a": torch.tanh(2 * randn(batch, length, channels)), "b": randn(batch, length, channels)}
    elif operation == "linear_recurrence":
        made = {name: F.normalize(randn(batch, length, 2, channels // 2), dim=-1) for name in "qkv"}
        made["g"] = -F.softplus(2 * randn(batch, length, 2, channels // 2) - 2)
    else:
        made = {name: randn(batch, 2, length, channels // 2) for name in "qkv"}
    return {name: tensor.to(device) for name, tensor in made.items()}


def uses(operation: str) -> dict[str, Function]:
    """The ways in which models call an operation: functions of the inputs and an implementation's name."""
    if operation == "selective_scan":

        def gated(x: Tensor, *rest: Tensor, implementation: str) -> Tensor:
            return selective_scan(x, *rest, gate=x.flip(1), softplus=True, implementation=implementation)

        windowed = {f" window {n}": partial(selective_scan, window=n) for n in (3, 6)}
        return {"": selective_scan, **windowed, " gate, softplus": gated}
    if operation == "causal_conv1d":
        return {"": causal_conv1d, " silu": partial(causal_conv1d, silu=True)}

    if operation == "diagonal_recurrence":
        return {"": diagonal_recurrence, " constant": _constant, " complex": _complex}
    if operation == "linear_recurrence":
        return {name: partial(_linear, name) for name in ("", " decay of channels", " delta rule", " bounded")}

    def some(q: Tensor, k: Tensor, v: Tensor, implementation: str) -> Tensor:
        keep = slice(1, None, 3)
        return attention(q[:, :, keep], k, v, keep=keep, implementation=implementation)

    return {"": attention, " some positions": some}


def _constant(a: Tensor, b: Tensor, implementation: str) -> Tensor:
    return diagonal_recurrence(a[0, 0], b, implementation=implementation)


def _complex(a: Tensor, b: Tensor, implementation: str) -> Tensor:
    turning = 0.7 * torch.complex(a, a.flip(1))  # of size 1 at most
    return torch.view_as_real(diagonal_recurrence(turning, b, implementation=implementation))


def _linear(use: str, q: Tensor, k: Tensor, v: Tensor, g: Tensor, implementation: str) -> Tensor:
    """With one decay a head, or with one a channel and perhaps a low-rank term, or as RWKV-7."""
    made = {
        "": Recurrence(q, k, v, g[..., 0]),
        " decay of channels": Recurrence(q, k, v, g),
        " delta rule": Recurrence(q, k, v, g[..., 0], -k),
        " bounded": Recurrence(q, v, v, g.clamp(min=-0.6), -k, k),
    }
    strongest = {"strongest": -0.6} if use == " bounded" else {}
    return linear_recurrence(made[use], implementation=implementation, **strongest)


def check_operation(
    operation: str, implementation: str, device: str, bf16: bool = False, other: Function | None = None
) -> float:
    """Compare an implementation with the reference in float64; the largest error. Raises ``Unequal``.

    ``bf16``: inputs are as under autocast: bfloat16, except decays and the scan's D. ``other``: another package's
    function, which is checked in the plain use only; ours are checked in all.
    """
    largest = 0.0
    fused = other is None and OPERATIONS[operation].table[implementation].fused
    for shape in SHAPES:
        inputs = operation_inputs(operation, shape, device)
        if bf16:
            inputs = {name: t if name in EXACT else t.bfloat16() for name, t in inputs.items()}
        doubles = [t.double() for t in inputs.values()]
        names = ("values", *(f"gradient of {name}" for name in inputs))
        for use, function in uses(operation).items():
            if (use == " some positions" and not fused) or (use and other is not None):
                continue
            got = values_and_gradients(other or partial(function, implementation=implementation), list(inputs.values()))
            wanted = values_and_gradients(partial(function, implementation="reference"), doubles)
            where = f"{operation} {implementation}{use} at {'x'.join(map(str, shape))}: "
            largest = max(largest, largest_error(got, wanted, names, where, bf16))
    return largest
