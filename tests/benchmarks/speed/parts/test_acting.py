"""Decisions are timed with a full window, and environment steps long enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from speed_settings import CONTEXT, tiny
from torch import Tensor

from backbench.agents.acting import make_actor
from backbench.benchmarks.speed.config import OBSERVATION
from backbench.benchmarks.speed.models import backbone_model, make_policy
from backbench.benchmarks.speed.parts.acting import warm_actor
from backbench.benchmarks.speed.report import Report


@pytest.mark.parametrize("name", ["mamba", "transformer"])
def test_a_warm_actor_has_a_full_window_and_its_backbone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it decides next is what an actor decides that worked for its window, given that it did the same."""
    config = tiny(name)
    agent: Any = make_policy(backbone_model(name, config), config, config.context).eval()
    monkeypatch.setattr(agent.head, "act", lambda output, _: torch.zeros_like(output))
    states = torch.randn(2, OBSERVATION)
    for acting in ("window", "recurrent"):
        warm: Any = warm_actor(agent, acting, states, CONTEXT)
        assert warm.time == CONTEXT
        plain = make_actor(agent, acting, torch.zeros(2), CONTEXT)
        for _ in range(CONTEXT):
            plain.act(states)
            plain.update(torch.zeros(2))
        decided: list[Tensor] = []

        def act(output: Tensor, _: object, to: list[Tensor] = decided) -> Tensor:
            to.append(output)
            return torch.zeros_like(output)

        monkeypatch.setattr(agent.head, "act", act)
        for actor in (warm, plain):
            actor.act(states)
        assert decided[0].abs().max() > 0
        torch.testing.assert_close(decided[0], decided[1])


def test_episodes_have_enough_steps_to_be_timed(report: Report) -> None:
    for one in report.acting:
        assert one.environments == (1 if one.acting == "alone" else 10)
        assert one.steps >= 50 * one.environments
        assert min(one.cpu_seconds) > 1e-3  # a tenth of a simulator's step each, at least
