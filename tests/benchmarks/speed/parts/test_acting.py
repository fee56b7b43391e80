"""Decisions are timed with a full window, and environment steps long enough."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from speed_settings import CONTEXT, tiny
from torch import Tensor

from backbench.agents.acting import ACTING, make_actor
from backbench.backbones.kernels.layers.layers import LAYERS, missing
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


@pytest.mark.skipif(missing() is not None, reason="layers run in one call with the compiled kernels only")
@pytest.mark.parametrize(("name", "protocols"), [("mamba", ACTING), ("gloma", ACTING), ("transformer", ("recurrent",))])
def test_timed_decisions_run_as_those_of_an_evaluation(name: str, protocols: tuple[str, ...]) -> None:
    """For several environments too: states that earlier decisions left must be such that one call can change them."""
    config = tiny(name)
    agent: Any = make_policy(backbone_model(name, config), config, config.context).eval()
    states = torch.randn(4, OBSERVATION)
    for acting in protocols:
        actor = warm_actor(agent, acting, states, CONTEXT)
        LAYERS.ran.clear()
        actor.act(states)
        assert LAYERS.ran == {"cpp"}, acting


def test_episodes_have_enough_steps_to_be_timed(report: Report) -> None:
    for one in report.acting:
        assert one.environments == (1 if one.acting == "alone" else 10)
        assert one.steps >= 50 * one.environments
        assert min(one.cpu_seconds) > 1e-3  # a tenth of a simulator's step each, at least
