"""Compiled kernels as operators of PyTorch, for programs of ``torch.export`` alone: a tracer follows no pointers.

They have no gradients. Training and acting call the kernels without them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def operator(schema: str, like: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function as ``backbench::NAME``; ``schema`` is ``NAME(type argument, ...) -> Tensor``.

    Its result is new, and has the shape and the type of the argument ``like``.
    """
    name, _, signature = schema.partition("(")
    names = [argument.split()[-1] for argument in signature.partition(")")[0].split(",")]
    position = names.index(like)

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        made = torch.library.custom_op(f"backbench::{name}", function, mutates_args=(), schema=f"({signature}")

        def fake(*arguments: Any) -> Tensor:
            shaped: Tensor = arguments[position]
            return shaped.new_empty(shaped.shape)

        made.register_fake(fake)
        return made

    return register
