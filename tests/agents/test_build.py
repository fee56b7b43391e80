"""Parameter counts of whole agents, as published code has them."""

from __future__ import annotations

import pytest

from backbench.agents.agent import Agent, continuous_agent, discrete_agent
from backbench.agents.encoders import PixelEncoder, vector_encoder
from backbench.agents.tokenizer import TokenConfig
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.benchmarks.run.cost import count_parameters

HOPPER = {"observation": 11, "action_dim": 3}


def agent_of(backbone: str, d_model: int = 128) -> int:
    spec = Spec(d_model=d_model, n_layers=3, max_length=60)
    encoder = vector_encoder(HOPPER["observation"], d_model)
    return count_parameters(
        continuous_agent(
            build(backbone, None, spec), encoder, HOPPER["action_dim"], d_model, TokenConfig(1000, 1000.0, 0.1)
        )
    )


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        # Decision Mamba on Gym's hopper, d = 128, a timestep table of 1,000 rows, a final norm (Ota, arXiv:2403.19925).
        ("mamba", 877_315),
        # The same with Decision Transformer's layer, 198,272 instead of 248,704 each.
        ("transformer", 877_315 - 3 * (248_704 - 198_272)),
    ],
)
def test_hopper_agent(backbone: str, count: int) -> None:
    assert agent_of(backbone) == count


def breakout_agent(backbone: str, options: dict[str, object]) -> Agent:
    spec = Spec(d_model=128, n_layers=6, max_length=90)
    tokens = TokenConfig(max_timesteps=2719, return_scale=1.0, timestep="window", embedding="tanh", context=30)
    encoder = PixelEncoder("nature", (4, 84, 84), 128)
    return discrete_agent(build(backbone, options, spec), encoder, 4, 128, tokens)


@pytest.mark.parametrize(
    ("backbone", "options", "count"),
    [
        # Decision Transformer on Breakout, six layers of eight heads, K = 30 (Chen et al., arXiv:2106.01345).
        ("transformer", {"n_heads": 8, "activation": "gelu"}, 1_682_336),
        # Decision Mamba on Breakout (Ota, arXiv:2403.19925).
        ("mamba", {}, 1_984_928),
    ],
)
def test_breakout_agent_without_the_table_of_timesteps(backbone: str, options: dict[str, object], count: int) -> None:
    agent = breakout_agent(backbone, options)
    assert count_parameters(agent) - count_parameters(agent.tokenizer.embed_timestep) == count


def test_encoders_parameters() -> None:
    """The convolutions of Decision Transformer's Atari model; the light one counted by hand."""
    nature = (4 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (64 * 49 * 128 + 128)
    assert count_parameters(PixelEncoder("nature", (4, 84, 84), 128)) == nature == 479_520
    light = (4 * 16 * 16 + 16) + (16 * 16 * 32 + 32) + (32 * 81 * 64 + 64)
    assert count_parameters(PixelEncoder("light", (4, 84, 84), 64)) == light
