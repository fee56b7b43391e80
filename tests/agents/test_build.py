"""Parameter counts of complete agents equal those of published code."""

from __future__ import annotations

import pytest

from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent, count_parameters
from backbench.agents.encoders import PixelEncoder
from backbench.agents.heads import ActionSpace

HOPPER = Spaces((11,), ActionSpace(3), max_timesteps=1000, return_scale=1000.0)
BREAKOUT = Spaces((4, 84, 84), ActionSpace(4, discrete=True), max_timesteps=2719, return_scale=1.0)


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        # Decision Mamba on Gym's hopper, d = 128, a timestep table of 1,000 rows, a final norm (Ota, arXiv:2403.19925).
        ("mamba", 877_315),
        # The same with Decision Transformer's layer, 198,272 instead of 248,704 each.
        ("transformer", 877_315 - 3 * (248_704 - 198_272)),
    ],
)
def test_hopper_agents_are_as_large_as_published(backbone: str, count: int) -> None:
    model = ModelSettings(d_model=128, n_layers=3, dropout=0.1, context=20)
    assert count_parameters(build_agent(backbone, None, model, HOPPER)) == count


def breakout_agent(backbone: str, options: dict[str, object]) -> Agent:
    return build_agent(backbone, options, ModelSettings(128, 6, 0.1, 30, "window", "tanh", "nature"), BREAKOUT)


@pytest.mark.parametrize(
    ("backbone", "options", "count"),
    [
        # Decision Transformer on Breakout, six layers of eight heads, K = 30 (Chen et al., arXiv:2106.01345).
        ("transformer", {"n_heads": 8, "activation": "gelu"}, 1_682_336),
        # Decision Mamba on Breakout (Ota, arXiv:2403.19925).
        ("mamba", {}, 1_984_928),
    ],
)
def test_breakout_agents_without_the_timestep_table_are_as_large_as_published(
    backbone: str, options: dict[str, object], count: int
) -> None:
    agent = breakout_agent(backbone, options)
    assert count_parameters(agent) - count_parameters(agent.tokenizer.embed_timestep) == count


def test_pixel_encoders_are_as_large_as_published() -> None:
    """The convolutions of Decision Transformer's Atari model; the light one is counted by hand."""
    nature = (4 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (64 * 49 * 128 + 128)
    assert count_parameters(PixelEncoder("nature", (4, 84, 84), 128)) == nature == 479_520
    light = (4 * 16 * 16 + 16) + (16 * 16 * 32 + 32) + (32 * 81 * 64 + 64)
    assert count_parameters(PixelEncoder("light", (4, 84, 84), 64)) == light
