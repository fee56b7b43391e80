"""Measured models: their FLOPs, and the actor that recomputes the complete model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from speed_settings import tiny
from torch.utils.flop_counter import FlopCounterMode

from backbench.agents.acting import make_actor
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.benchmarks.speed.config import OBSERVATION
from backbench.benchmarks.speed.models import RecomputingActor, backbone_model, make_policy


@pytest.mark.parametrize(
    ("name", "options", "mixing"),
    [
        ("transformer", {"n_heads": 2}, 0),
        ("mamba", {}, 9 * 16),
        ("mamba", {"mlp": False, "d_state": 8}, 9 * 8),
        ("gloma", {}, (9 + 13) * 16),
        ("gloma", {"fusion": "concat"}, (9 + 13) * 16),
        ("gloma", {"fusion": "gated", "window_of": "scan", "local_d_state": 4}, 9 * 16 + 13 * 4),
        ("gloma", {"local": "blocks"}, 2 * 9 * 16),
        ("mlp", {}, 0),
        ("identity", {}, 0),
    ],
)
def test_flops_are_those_of_the_products_and_the_scan(
    name: str, options: dict[str, Any], mixing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch counts the matrix products as they run; convolution and scan, left out here, come to ``mixing``.

    That is, FLOPs of the scans for each channel and token, besides 2 a tap.
    """
    for function in ("selective_scan", "causal_conv1d"):
        monkeypatch.setattr(f"backbench.backbones.mixers.mamba.{function}", lambda x, *rest, **named: x)
    length, d = 24, 32
    kernels = {} if name in ("mlp", "identity") else {"kernels": "reference"}
    model = build(name, options | kernels, Spec(d_model=d, n_layers=2, max_length=length)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(2, length, d))
    counted = counter.get_total_flops() / (2 * length)
    if name == "transformer":  # the reference multiplies with the future too, and then drops it
        counted -= 2 * 4 * d * (length - (length + 1) / 2)
    blocks = {"mamba": 1, "gloma": 2}.get(name, 0)
    elsewhere = 2 * (2 * d) * (mixing + blocks * 2 * 4)
    assert model.flops(length) == pytest.approx(counted + elsewhere, rel=1e-9)


def test_recomputing_actor_decides_as_the_agents_own() -> None:
    config = tiny("gloma")
    agent: Any = make_policy(backbone_model("gloma", config), config, config.context).eval()
    targets, g = torch.tensor([5000.0, 100.0]), torch.Generator().manual_seed(0)
    actors = make_actor(agent, "window", targets, 4), RecomputingActor(agent, targets, 4)
    for _ in range(7):
        states, rewards = torch.randn(2, OBSERVATION, generator=g), torch.randn(2, generator=g)
        one, other = (actor.act(states) for actor in actors)
        torch.testing.assert_close(one, other)
        for actor in actors:
            actor.update(rewards)
