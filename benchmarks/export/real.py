"""Mixers with complex states in real numbers, because ONNX has no complex ones."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.agents.agent import Agent
from backbench.backbones.fast import ALL, State
from backbench.backbones.mixers.lru import ComplexStates
from backbench.backbones.stack import ResidualStack


class RealStates(nn.Module):
    """The recurrent step of a mixer with complex states. Its weights are fixed, so decays and B are numbers here."""

    decays: Tensor  # (channels, 2), real and imaginary
    B: Tensor  # (2 * channels, d_model)

    def __init__(self, mixer: ComplexStates) -> None:
        super().__init__()
        self.mixer = mixer
        with torch.no_grad():
            decays = mixer.decays()
            self.register_buffer("decays", torch.view_as_real(decays).clone())
            self.register_buffer("B", mixer.scaled_B(decays).flatten(0, 1).clone())

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """As the mixer's: h_t = a h_{t-1} + B x_t, with ``state`` h (batch, channels, 2)."""
        real, imaginary = self.decays.unbind(-1)
        after = []
        for b in torch.unflatten(F.linear(x, self.B), -1, (-1, 2)).unbind(1):
            one, other = state.unbind(-1)
            state = torch.stack((real * one - imaginary * other, real * other + imaginary * one), -1) + b
            after.append(state)
        return self.mixer.leave(torch.stack(after, 1)[:, keep], x[:, keep]), state


def in_real_numbers(agent: Agent) -> Agent:
    """The agent, or if a layer has complex states a copy that can only `extend`."""
    stack: Any = agent.backbone
    if not isinstance(stack, ResidualStack) or not any(isinstance(part, ComplexStates) for part in stack.modules()):
        return agent
    changed = copy.deepcopy(agent)
    layers: Any = changed.backbone.layers
    for layer in layers:
        if isinstance(layer.mixer, ComplexStates):
            layer.mixer = RealStates(layer.mixer)
    return changed
