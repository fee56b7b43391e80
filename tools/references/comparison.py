"""One comparison with another package: both get equal weights and inputs, outputs and gradients are compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from backbench.backbones import BACKBONES, make_options
from backbench.backbones.contract import Spec
from backbench.benchmarks.speed.models import Arranged, alone

BATCH, LENGTH, D = 2, 133, 32  # a length beyond a chunk of every kernel, and no multiple of one
LAYER, AGENT, RECURRENCE = "layer", "agent", "recurrence"
DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Package:
    """A distribution, the requirements that install it for a comparison, and another that it cannot do without."""

    distribution: str
    requirements: str
    needs: str = "torch"

    @property
    def installed(self) -> str | None:
        """Name and version, None if it is not installed."""
        try:
            version(self.needs)
            return f"{self.distribution} {version(self.distribution)}"
        except PackageNotFoundError:
            return None


@dataclass(frozen=True)
class Comparison:
    """A backbone and what it is compared with. ``sides`` makes our function, theirs, and the inputs of both."""

    backbone: str
    package: Package
    name: str  # of the class or function
    part: str  # LAYER, AGENT or RECURRENCE
    sides: Callable[[], tuple[Function, Function, Sequence[Tensor]]]
    allowed: float = 1e-10  # error in float64

    def error(self, dtype: torch.dtype) -> float:
        """The largest error of outputs and gradients, relative to the largest entry of each tensor."""
        with default_dtype(dtype):
            with foreign(dtype):
                ours, theirs, inputs = self.sides()
            inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
            found = values_and_gradients(ours, inputs)
            with foreign(dtype):
                wanted = values_and_gradients(theirs, inputs)
        pairs = zip(found, wanted, strict=True)
        errors = [float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in pairs]
        return max(error if error == error else float("inf") for error in errors)


class InDouble(TorchFunctionMode):
    """Casts to single precision become casts to double: several packages compute decays or states in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        function = Tensor.double if func is Tensor.float else func
        words = {name: self._wider(value) for name, value in (kwargs or {}).items()}
        return function(*map(self._wider, args), **words)

    @staticmethod
    def _wider(value: Any) -> Any:
        return DOUBLE.get(value, value) if isinstance(value, torch.dtype) else value


def foreign(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Where another package's code runs: if ``dtype`` is double, it computes in nothing less."""
    return InDouble() if dtype == torch.float64 else nullcontext()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def values_and_gradients(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output, and the gradient of each input under a fixed random weighting of the output."""
    y = function(*inputs)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return [y, *torch.autograd.grad((y * weight.to(y.dtype)).sum(), inputs)]


def perturb(module: nn.Module, by: float = 0.1) -> nn.Module:
    """Weights away from their start, so that each of them matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, dtype=torch.float64))
    return module


def our_mixer(backbone: str, **options: Any) -> Any:
    """The mixer of a backbone with random weights, the same each time but for their precision."""
    torch.manual_seed(0)
    cls = BACKBONES.get(backbone)
    mixer: Any = cls(make_options(cls, options), Spec(D, n_layers=2, dropout=0.0, max_length=LENGTH))
    return perturb(mixer).eval()


def tokens() -> Tensor:
    """(batch, length, d_model), the same each time."""
    return torch.randn(BATCH, LENGTH, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sides_of_modules(
    ours: nn.Module,
    theirs: nn.Module,
    arranged: Mapping[str, Arranged],
    run: Function | None = None,
    unlike: Collection[str] = (),
) -> tuple[Function, Function, Sequence[Tensor]]:
    """Both as functions of tokens and of our weights, of which ``arranged`` makes each parameter of theirs.

    ``run`` is what ours computes of the tokens, if not its forward. ``unlike``: names of parameters of either
    that the other has no counterpart of. AssertionError: a further parameter is in no pair.
    """
    names = {id(parameter): name for name, parameter in ours.named_parameters()}
    weights = {id(parameter): parameter for parameters, *_ in arranged.values() for parameter in parameters}
    assert {names[key] for key in weights} == set(names.values()) - set(unlike)
    assert arranged.keys() == dict(theirs.named_parameters()).keys() - set(unlike)

    def mine(x: Tensor, *values: Tensor) -> Tensor:
        given = {f"module.{names[key]}": value for key, value in zip(weights, values, strict=True)}
        return functional_call(Running(ours, run), given, (x,))  # type: ignore[no-any-return]

    def other(x: Tensor, *values: Tensor) -> Tensor:
        given, made = dict(zip(weights, values, strict=True)), {}
        for name, (parameters, *how) in arranged.items():
            made[name] = (how[0] if how else alone)(*(given[id(parameter)] for parameter in parameters))
        return functional_call(theirs, made, (x,))  # type: ignore[no-any-return]

    return mine, other, [tokens(), *weights.values()]


class Running(nn.Module):
    """A module whose forward is a function that uses it."""

    def __init__(self, module: nn.Module, run: Function | None) -> None:
        super().__init__()
        self.module, self.run = module, run or module.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)
