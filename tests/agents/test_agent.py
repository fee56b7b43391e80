"""For every backbone: what an agent's predictions depend on, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import vector_encoder
from backbench.agents.heads import ActionSpace
from backbench.agents.tokenizer import TokenConfig
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Spec

K = 6
MEMORYLESS = ("identity", "mlp")


@pytest.fixture(params=BACKBONES.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def agent(name: str) -> Agent:
    torch.manual_seed(3)
    backbone = build(name, {}, Spec(16, n_layers=2, dropout=0.1, max_length=3 * K))
    return assemble(backbone, vector_encoder(5, 16), ActionSpace(2), TokenConfig(100, 10.0, 0.1)).eval()


def inputs(batch: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return (
        20 * torch.randn(batch, K, generator=draw),
        torch.randn(batch, K, 5, generator=draw),
        torch.rand(batch, K, 2, generator=draw) * 2 - 1,
        torch.arange(K).expand(batch, K) + 7,
    )


@torch.no_grad()
def test_predictions_do_not_depend_on_their_action_or_the_future(agent: Agent) -> None:
    """Neither the action to be predicted nor anything later changes a prediction."""
    returns, states, actions, times = inputs()
    before = agent(returns, states, actions, times)
    for t in range(K):
        r, s, a, later = returns.clone(), states.clone(), actions.clone(), times.clone()
        a[:, t:] = 5.0
        r[:, t + 1 :] = -300.0
        s[:, t + 1 :] = 9.0
        later[:, t + 1 :] = 99
        after = agent(r, s, a, later)
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1], rtol=0, atol=1e-6)
        if t + 1 < K:
            assert not torch.allclose(after[:, t + 1 :], before[:, t + 1 :], atol=1e-5)


@torch.no_grad()
def test_predictions_depend_on_what_the_backbone_can_see(agent: Agent, name: str) -> None:
    """On the state always, on the requested return if tokens mix, on the past if there is memory."""
    agent = agent.double()  # fresh weights are small, and so are effects
    *values, times = inputs()
    returns, states, actions = (t.double() for t in values)
    before = agent(returns, states, actions, times)

    def moved(place: int, **changed: Tensor) -> float:
        r, s, a = changed.get("r", returns), changed.get("s", states), changed.get("a", actions)
        return float((agent(r, s, a, times)[:, place] - before[:, place]).abs().max())

    t = 3
    s, r, past = states.clone(), returns.clone(), actions.clone()
    s[:, t], r[:, t], past[:, t - 1] = -s[:, t], -r[:, t], -past[:, t - 1]
    assert moved(t, s=s) > 1e-4
    assert (moved(t, r=r) > 1e-7) == (name != "identity")
    assert (moved(t, a=past) > 1e-7) == (name not in MEMORYLESS)


@torch.no_grad()
def test_padding_changes_nothing(agent: Agent) -> None:
    returns, states, actions, times = inputs()
    for real in range(1, K + 1):
        mask = (torch.arange(K) < real).expand(3, K)
        short = Windows(returns[:, :real], states[:, :real], actions[:, :real], times[:, :real], mask[:, :real])
        padded = Windows(returns * mask, states * mask[..., None], actions * mask[..., None], times * mask, mask)
        for garbage in (0.0, 1e3):
            filled = Windows(
                padded.returns_to_go + garbage * ~mask,
                padded.states + garbage * ~mask[..., None],
                padded.actions + garbage * ~mask[..., None],
                padded.timesteps,
                mask,
            )
            torch.testing.assert_close(agent.loss(filled), agent.loss(short), rtol=0, atol=1e-6)
            out = agent(filled.returns_to_go, filled.states, filled.actions, filled.timesteps)
            expected = agent(short.returns_to_go, short.states, short.actions, short.timesteps)
            torch.testing.assert_close(out[:, :real], expected, rtol=0, atol=1e-6)


def test_padding_gets_no_gradient(agent: Agent) -> None:
    returns, states, actions, times = inputs()
    mask = (torch.arange(K) < 4).expand(3, K)
    states.requires_grad_()
    torch.autograd.backward(agent.loss(Windows(returns, states, actions, times, mask)))
    assert states.grad is not None
    assert not states.grad[:, 4:].any()
    assert states.grad[:, :4].any(dim=-1).all()
