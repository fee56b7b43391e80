"""All layers of a stack for the few tokens of a decision. :mod:`backbench.backbones.fused` says which stacks."""

from typing import Any

import torch
from torch import Tensor

from backbench.backbones.kernels.dispatch import Implementation, Operation
from backbench.backbones.kernels.layers.program import Program
from backbench.backbones.kernels.native import loader


def each_layer(stack: Any, x: Tensor, state: Any) -> Any:
    """Each layer's own step, in PyTorch and with the other operations' implementations."""
    return stack.extend(x, state, slice(-1, None))


def compiled(program: Program, x: Tensor) -> Tensor:
    """All layers in one compiled call, when acting with carried state."""
    return program.run(x)


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
