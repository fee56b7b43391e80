"""All layers of a stack for the few tokens of a decision. :mod:`backbench.backbones.fused` says which stacks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from backbench.backbones.kernels.dispatch import Implementation, Operation, is_traced
from backbench.backbones.kernels.layers.program import Program
from backbench.backbones.kernels.native import loader


def each_layer(stack: Any, x: Tensor, state: Any) -> Any:
    """Each layer's own step, in PyTorch and with the other operations' implementations."""
    return stack.extend(x, state, slice(-1, None))


def compiled(program: Program, x: Tensor) -> Tensor:
    """All layers in one compiled call."""
    LAYERS.ran.add("cpp")
    return program.run(x)


_ONE_BY_ONE = ContextVar("one_by_one", default=False)


@contextmanager
def as_recorded(kernels: Mapping[str, str]) -> Iterator[None]:
    """Within, layers run one by one if a record that names these kernels does not say that they ran at once.

    The two round differently, and a simulator makes much of the last bit.
    """
    token = _ONE_BY_ONE.set(LAYERS.name not in kernels)
    try:
        yield
    finally:
        _ONE_BY_ONE.reset(token)


def at_once() -> bool:
    """Whether layers that are known run in one compiled call on a CPU, in float32."""
    return not _ONE_BY_ONE.get() and not is_traced() and LAYERS.chosen().name == "cpp"


def missing() -> str | None:
    """None if the library has programs, else the reason."""
    found = loader.missing()
    if found is None and not hasattr(loader.library(), "backbench_program"):
        return "the compiled CPU kernels are older than this; reinstall backbench"
    return found


LAYERS = Operation(
    "layers",
    Implementation("reference", each_layer),
    Implementation("cpp", compiled, ("cpu",), (torch.float32,), missing=missing),
)
