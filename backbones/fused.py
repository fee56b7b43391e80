"""Acting in one compiled call: what a `ResidualStack` computes for its last position, for mixers that are known.

It equals the layers' own `extend` and `mix` up to rounding, and changes the same states. Weights are read where PyTorch
keeps them, so a change of weights needs no word. Whatever is not known runs as before: another mixer, a subclass,
hooks, dropout, gradients, another device or number type, a named kernel, no compiler.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as hooks

from backbench.backbones.contract import LAST, Backbone, State, map_state
from backbench.backbones.kernels.layers.layers import at_once, compiled
from backbench.backbones.kernels.layers.program import Program, readable
from backbench.backbones.layer_writer import known, written
from backbench.backbones.mixers.transformer import Transformer
from backbench.backbones.stack import ResidualStack

METHODS = {"forward", "step", "extend", "project", "mix"}


class FusedLayers:
    """``extend`` and ``mix`` of a stack at its last position."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone: Any = backbone
        self.modules = list(backbone.modules())
        self.programs: dict[tuple[int, int, bool], Program] = {}
        stack = all(getattr(type(backbone), name) is getattr(ResidualStack, name) for name in METHODS)
        parts = self.modules[1:]  # the first is the stack
        self.known = stack and known(parts)
        # A window has no cache of keys and values.
        self.windows = self.known and not any(isinstance(one, Transformer) for one in parts)

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """``backbone.extend(x, state, LAST)``."""
        if self.known and x.shape[1] <= self.backbone.spec.tokens_per_step and self._plain(x):
            program = self._program(x, carried=True)
            if program is not None and (state is program.state or self._adopted(program, state)):
                return compiled(program, x), state
        after: tuple[Tensor, State] = self.backbone.extend(x, state, LAST)
        return after

    def mix(self, projected: State) -> Tensor:
        """``backbone.mix(projected, LAST)``."""
        if self.windows:
            leaves = _leaves(projected)
            program = self._program(leaves[0], carried=False) if self._plain(leaves[0]) else None
            same = all(self._fits(one) and one.shape[:2] == leaves[0].shape[:2] for one in leaves)
            if program is not None and same:
                program.give(leaves)
                return compiled(program, leaves[0])
        mixed: Tensor = self.backbone.mix(projected, LAST)
        return mixed

    def _plain(self, x: Tensor) -> bool:
        """Whether nothing but numbers is asked for."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not self._fits(x):
            return False
        plain = not any(
            one.training or one._forward_hooks or one._forward_pre_hooks or not METHODS.isdisjoint(one.__dict__)
            for one in self.modules
        )
        return plain and not hooks._has_any_global_hook() and at_once()  # type: ignore[no-untyped-call]  # torch's own

    @staticmethod
    def _fits(x: Tensor) -> bool:
        plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32
        return plain and x.numel() > 0 and x.stride(-1) == 1

    def _program(self, x: Tensor, carried: bool) -> Program | None:
        """The program for these sizes, which points at the weights as they are now. None if they do not fit."""
        key = (len(x), x.shape[1], carried)
        if key not in self.programs:
            if len(self.programs) > 1:  # a step's first tokens, and later ones
                self.programs.clear()
            self.programs[key] = written(self.backbone, *key)
        return self.programs[key] if self.programs[key].refresh() else None

    def _adopted(self, program: Program, state: State) -> bool:
        """Whether the state is one that the program can change; then it will."""
        leaves, first = _leaves(state), _leaves(self.backbone.initial_state(1))
        pairs = zip(leaves, first, strict=False)
        fits = len(leaves) == len(first) and all(
            readable(one, (program.batch, *like.shape[1:]), like.dtype) for one, like in pairs
        )
        if fits:
            program.adopt(state, leaves)
        return fits


def _leaves(state: State) -> list[Tensor]:
    found: list[Tensor] = []
    map_state(found.append, state)
    return found
