"""Agents of a few hundred weights, to be exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.backbones.contract import Mixer

VECTOR, PIXELS = (5,), (2, 84, 84)


def in_turns(names: Sequence[str], count: int = 4) -> list[str]:
    """All ``names`` in hybrids of ``count`` layers: a graph costs more by its being made than by its layers."""
    return ["+".join(names[first : first + count]) for first in range(0, len(names), count)]


def small_agent(
    backbone: str | type[Mixer],
    options: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] = VECTOR,
    actions: ActionSpace = ActionSpace(3),  # noqa: B008
    **model: Any,
) -> Agent:
    torch.manual_seed(0)
    layers = len(backbone.split("+")) if isinstance(backbone, str) else 1
    settings = ModelSettings(**({"d_model": 8, "n_layers": layers, "dropout": 0.1, "context": 3} | model))
    statistics = (torch.randn(5), torch.rand(5) + 0.5) if shape == VECTOR else None
    agent = build_agent(backbone, options or {}, settings, Spaces(shape, actions, 12, 10.0, statistics)).eval()
    with torch.no_grad():
        for parameter in agent.parameters():  # biases too: a graph without them would not differ from zeros
            parameter.add_(0.05 * torch.randn_like(parameter))
    return agent
