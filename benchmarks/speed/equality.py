"""Equality with the reference: a kernel is timed only if its values and gradients equal the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.kernels import OPERATIONS, attention, causal_conv1d, selective_scan

# Largest allowed error, relative to the largest entry of each tensor.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = ((3, 37, 24, 5), (2, 60, 256, 16))  # batch, length, channels, state: an odd shape, and a model's
Shape = tuple[int, int, int, int]
Function = Callable[..., Tensor]


class Unequal(Exception):
    """An equality test failed. The message says which test, and by how much."""


def largest_error(
    actual: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str], where: str = "", bf16: bool = False
) -> float:
    """The largest error of all tensors, infinite where a number is not finite.

    Raises:
        Unequal: a tensor is off by more than the tolerance; names the tensor with the largest error.
    """
    worst, largest = "nothing", 0.0
    for name, a, e in zip(names, actual, expected, strict=True):
        scale = e.detach().abs().max().clamp(min=1e-7)
        error = float((a.detach().to(e) - e.detach()).abs().max() / scale)
        error = error if error == error else float("inf")
        worst, largest = (name, error) if error > largest else (worst, largest)
    tolerance = TOLERANCE[torch.bfloat16 if bf16 else torch.float32]
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
    g = torch.Generator().manual_seed(0)

    def randn(*size: int) -> Tensor:
        return torch.randn(*size, generator=g)

    if operation == "selective_scan":  # slow and fast decays, as in a model
        dt = F.softplus(2 * randn(batch, length, channels) - 4)
        A = -torch.exp(randn(channels, state))
        B, C = randn(batch, length, state), randn(batch, length, state)
        made = {"x": randn(batch, length, channels), "dt": dt, "A": A, "B": B, "C": C, "D": randn(channels)}
    elif operation == "causal_conv1d":
        made = {"x": randn(batch, length, channels), "weight": randn(channels, 4), "bias": randn(channels)}
    else:
        made = {name: randn(batch, 2, length, channels // 2) for name in "qkv"}
    return {name: tensor.to(device) for name, tensor in made.items()}


def uses(operation: str) -> dict[str, Function]:
    """The ways in which models call an operation: functions of an implementation's name and the inputs."""
    if operation == "selective_scan":

        def windowed(window: int | None) -> Function:
            return lambda name, *inputs: selective_scan(*inputs, window=window, implementation=name)

        def gated(name: str, x: Tensor, *rest: Tensor) -> Tensor:
            return selective_scan(x, *rest, gate=x.flip(1), softplus=True, implementation=name)

        return {"": windowed(None), " window 3": windowed(3), " window 6": windowed(6), " gate, softplus": gated}
    if operation == "causal_conv1d":
        return {
            "": lambda name, *inputs: causal_conv1d(*inputs, implementation=name),
            " silu": lambda name, *inputs: causal_conv1d(*inputs, silu=True, implementation=name),
        }
    keep = slice(1, None, 3)
    return {
        "": lambda name, *inputs: attention(*inputs, implementation=name),
        " some positions": lambda name, q, k, v: attention(q[:, :, keep], k, v, keep=keep, implementation=name),
    }


def check_operation(
    operation: str, implementation: str, device: str, bf16: bool = False, other: Function | None = None
) -> float:
    """Compare an implementation with the reference in float64; the largest error.

    Args:
        operation, implementation: their names.
        device: where the inputs are.
        bf16: inputs are as under autocast: bfloat16, except the scan's A and D.
        other: another package's function. It is checked in the plain use only, ours in all.

    Raises:
        Unequal: a value or gradient is off by more than the tolerance.
    """
    largest = 0.0
    fused = other is None and OPERATIONS[operation].table[implementation].fused
    for shape in SHAPES:
        inputs = operation_inputs(operation, shape, device)
        if bf16:
            inputs = {name: t if name in ("A", "D") else t.bfloat16() for name, t in inputs.items()}
        doubles = [t.double() for t in inputs.values()]
        names = ("values", *(f"gradient of {name}" for name in inputs))
        for use, function in uses(operation).items():
            if (use == " some positions" and not fused) or (use and other is not None):
                continue
            got = values_and_gradients(other or partial(function, implementation), list(inputs.values()))
            wanted = values_and_gradients(partial(function, "reference"), doubles)
            where = f"{operation} {implementation}{use} at {'x'.join(map(str, shape))}: "
            largest = max(largest, largest_error(got, wanted, names, where, bf16))
    return largest
