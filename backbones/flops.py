"""FLOPs of a forward pass: per token, 2 for a multiply-add, averaged over a causal context.

They come from formulas: of PyTorch's layers here, of our kernels beside each kernel. Biases, norms and activations are
left out, as is usual. :func:`measured` counts what ran instead. It is a check and not the source: it depends on the
version of PyTorch, and elementwise work escapes it.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

P = ParamSpec("P")
R = TypeVar("R")
SLACK = 1.03  # what ran may exceed the formulas by this factor: padding, and products of a few numbers


def of_attention(width: int, length: int, window: int = 0) -> float:
    """Scores and weighted values, ``width`` numbers over all heads. A token sees (length + 1) / 2 tokens on average.
    ``window``: most tokens that it sees, 0 for all before it."""
    most = min(window or length, length)
    return 4 * width * (most * (most + 1) / 2 + (length - most) * most) / length


class Formula(NamedTuple):
    """FLOPs of a PyTorch layer."""

    per_token: Callable[[Any, int], float]  # of the layer and the length of the context
    width: Callable[[Any], int]  # of an input, so that tokens can be counted


def _weights(layer: nn.Module) -> float:
    """2 for each entry of the layer's matrices."""
    return float(sum(2 * parameter.numel() for parameter in layer.parameters() if parameter.ndim > 1))


def _nothing(layer: nn.Module, length: int) -> float:
    return 0.0


# A subclass has the formula of its base.
FORMULAS: dict[type[nn.Module], Formula] = {
    nn.Linear: Formula(lambda layer, _: 2.0 * layer.weight.numel(), lambda layer: layer.in_features),
    nn.Conv1d: Formula(lambda layer, _: 2.0 * layer.weight.numel() / layer.stride[0], lambda layer: layer.in_channels),
    nn.RNNBase: Formula(lambda layer, _: _weights(layer), lambda layer: layer.input_size),
    nn.RNNCellBase: Formula(lambda layer, _: _weights(layer), lambda layer: layer.input_size),
    nn.MultiheadAttention: Formula(
        lambda layer, length: _weights(layer) + of_attention(layer.embed_dim, length), lambda layer: layer.embed_dim
    ),
    nn.Embedding: Formula(_nothing, lambda layer: 1),
    **{norm: Formula(_nothing, lambda layer: 1) for norm in (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)},
}


def formula_of(module: nn.Module) -> Formula | None:
    """The formula of a layer, None if there is none."""
    return next((formula for of, formula in FORMULAS.items() if isinstance(module, of)), None)


@dataclass(frozen=True)
class Count:
    """What is known of a module's FLOPs."""

    value: float | None  # per token; None if unknown
    estimated: tuple[str, ...] = ()  # matrices of layers without a formula, each counted as one product a token
    reason: str = ""  # why it is unknown


def count(module: nn.Module, length: int, tokens_per_step: int, width: int) -> Count:
    """Count by the layers of ``module``, (batch, length, width) to the same, for contexts of ``length`` tokens.

    The result is unknown if no layer has weights, or if `forward` multiplies more than the weights explain.
    """
    total, estimated = 0.0, []
    for name, part, formula in layers(module):
        if formula is not None:
            total += formula.per_token(part, length)
        elif _counts_itself(part) and part is not module:  # a mixer within a mixer
            if (of_part := part.flops(length)) is None:  # type: ignore[operator]
                return Count(None, reason=f"the FLOPs of {name} are unknown")
            total += of_part
        else:
            matrices = {key: 2.0 * p.numel() for key, p in part.named_parameters(name, recurse=False) if p.ndim > 1}
            total += sum(matrices.values())
            estimated += list(matrices)
    if total == 0:
        return Count(None, reason="no layer has a formula, and there are no weights to count")
    whole = max(length - length % tokens_per_step, min(length, tokens_per_step))  # complete steps need no padding
    try:
        ran = measured(module, whole, width)
    except Exception as error:  # a plug-in may raise anything; then nothing supports the formulas
        return Count(None, reason=f"forward raised {type(error).__name__} at {whole} tokens")
    if ran > SLACK * total:
        return Count(None, reason=f"forward ran {ran:,.0f} FLOPs per token, and its layers explain {total:,.0f}")
    return Count(total, tuple(estimated))


def _counts_itself(module: nn.Module) -> bool:
    """Whether it is a mixer or backbone of the contract. The `flops` of another module may be anything."""
    return hasattr(module, "flops") and hasattr(module, "uses_all_weights")


def layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module, Formula | None]]:
    """(path, module, formula) of ``module`` and all below, but nothing below what counts itself."""
    formula = formula_of(module)
    yield name, module, formula
    if formula is None and not (name and _counts_itself(module)):
        for key, child in module.named_children():
            yield from layers(child, f"{name}.{key}".lstrip("."))


def least(module: nn.Module) -> float:
    """FLOPs per token if each token meets each weight matrix once. Tables and norms are no matrices."""
    found = {id(p): 2.0 * p.numel() for p in module.parameters() if p.ndim > 1}
    for part in module.modules():
        formula = formula_of(part)
        if formula is not None and formula.per_token is _nothing:
            for parameter in part.parameters(recurse=False):
                found.pop(id(parameter), None)
    return sum(found.values())


# Of Fourier: 5 n log2(n) for n numbers, as is usual.
_TRANSFORMS = (torch.ops.aten._fft_r2c, torch.ops.aten._fft_c2r, torch.ops.aten._fft_c2c)


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of what runs inside. Layers and kernels with a formula count by it."""

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length, self.total, self.hidden = length, 0.0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.hidden:
            self.total += self._price(func.overloadpacket, args, kwargs or {}, out)
        return out

    def _price(self, operator: Any, args: Any, kwargs: Any, out: Any) -> float:
        if "scaled_dot_product" in str(operator) and "backward" not in str(operator):
            query, key = args[:2]
            return float(4 * query.numel() * (key.shape[-2] + 1) / 2)
        if operator in _TRANSFORMS:
            shape, axes = args[0].shape, args[1]
            size = math.prod(shape[axis] for axis in axes)
            return float(5 * args[0].numel() * math.log2(max(size, 2)))
        from torch.utils.flop_counter import flop_registry  # brings Triton, which few cells need

        if operator not in flop_registry:
            return 0.0
        price = float(flop_registry[operator](*args, **kwargs, out_val=out))
        if operator in (torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            # Scores, or weights times values: each token needs those before it only, whatever was computed.
            sides = [tuple(t.shape[-2:]) for t in (*args, out) if isinstance(t, Tensor)]
            price *= (self.length + 1) / (2 * self.length) if (self.length, self.length) in sides else 1
        return price

    @contextmanager
    def known(self, price: float) -> Iterator[None]:
        """Count ``price`` for what runs inside."""
        self.total += 0 if self.hidden else price
        self.hidden += 1
        try:
            yield
        finally:
            self.hidden -= 1


_traces: list[_Trace] = []


def priced(price: Callable[..., float]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a kernel: ``price`` of its arguments are the FLOPs of a call."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if not _traces:
                return function(*args, **kwargs)
            with _traces[-1].known(price(*args, **kwargs)):
                return function(*args, **kwargs)

        return run

    return decorate


@torch.no_grad()
def measured(module: nn.Module, length: int, width: int) -> float:
    """FLOPs per token of what `forward` runs on (1, length, width): matrix products, convolutions, attention, kernels.

    Other elementwise work does not count. The module is in evaluation mode meanwhile. Raises what `forward` raises.
    """
    like = next(module.parameters(), torch.empty(0))
    x = torch.randn(1, length, width, generator=torch.Generator().manual_seed(0)).to(like)
    modes = {part: part.training for part in module.modules()}
    trace, hooks, entered = _Trace(length), [], []

    def enter(part: nn.Module, args: Any, kwargs: Any) -> None:
        formula, first = formula_of(part), [*args, *kwargs.values()][0]
        assert formula is not None
        tokens = first.numel() / formula.width(part)
        entered.append(trace.known(tokens * formula.per_token(part, length)))
        entered[-1].__enter__()

    def leave(part: nn.Module, args: Any, output: Any) -> None:
        entered.pop().__exit__(None, None, None)

    for part in modes:
        if formula_of(part) is not None:
            hooks += [part.register_forward_pre_hook(enter, with_kwargs=True), part.register_forward_hook(leave)]
    _traces.append(trace)
    try:
        module.eval()
        with torch.random.fork_rng(devices=[]), trace:
            module(x)
    finally:
        _traces.pop()
        for hook in hooks:
            hook.remove()
        for part, mode in modes.items():
            part.training = mode
    return trace.total / length
