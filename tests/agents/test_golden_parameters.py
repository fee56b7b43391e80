"""Parameter counts of whole agents, as published code has them."""

from __future__ import annotations

import pytest

from backbench.agents.agent import continuous_agent
from backbench.agents.encoders import vector_encoder
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.benchmarks.measure import count_parameters

HOPPER = {"observation": 11, "action_dim": 3}


def agent_of(backbone: str, d_model: int = 128) -> int:
    spec = Spec(d_model=d_model, n_layers=3, max_length=60)
    encoder = vector_encoder(HOPPER["observation"], d_model)
    return count_parameters(
        continuous_agent(build(backbone, None, spec), encoder, HOPPER["action_dim"], d_model, 1000, 1000.0, 0.1)
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
