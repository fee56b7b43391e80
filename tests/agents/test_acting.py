"""Acting step by step equals the model on the complete history. Some episodes end earlier than others."""

from __future__ import annotations

import mixers
import pytest
import torch
from torch import Tensor

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.agents.build import assemble
from backbench.agents.encoders import vector_encoder
from backbench.agents.heads import ActionSpace
from backbench.agents.tokenizer import LAYOUTS, TokenConfig
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Mixer, Spec

K = 4
TARGETS = (900.0, 600.0, 300.0, -50.0, 0.0)
KEEP = {2: [0, 2, 3, 4], 5: [1, 3], 8: [1]}  # after these steps, of the rows that are left


@pytest.fixture(params=BACKBONES.names())
def agent(request: pytest.FixtureRequest) -> Agent:
    return made_with(request.param)


def made_with(backbone: str, layout: str = "rsa", timestep: str = "step") -> Agent:
    torch.manual_seed(5)
    kinds = LAYOUTS[layout]
    stack = build(backbone, {}, Spec(16, n_layers=2, dropout=0.1, tokens=kinds, max_length=len(kinds) * K))
    tokens = TokenConfig(8, 100.0, 0.1, timestep=timestep, context=K, layout=layout)
    made = assemble(stack, vector_encoder(5, 16), ActionSpace(2), tokens).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(2)  # outputs that differ visibly
    return made


def play(agent: Agent, acting: str, steps: int, window: int) -> None:
    draw = torch.Generator().manual_seed(1)
    actor = make_actor(agent, acting, torch.tensor(TARGETS), K)
    returns: Tensor = torch.empty(len(TARGETS), 0)
    states: Tensor = torch.empty(len(TARGETS), 0, 5)
    actions: Tensor = torch.empty(len(TARGETS), 0, 2)
    rewards: Tensor = torch.empty(len(TARGETS), 0)
    targets = torch.tensor(TARGETS)
    for step in range(steps):
        now = torch.randn(len(states), 5, generator=draw)
        action = actor.act(now)

        # The return still to be earned is the target minus the raw rewards so far.
        returns = torch.cat([returns, (targets - rewards.sum(1))[:, None]], 1)
        states = torch.cat([states, now[:, None]], 1)
        unknown = torch.full((len(states), 1, 2), 77.0)
        times = torch.arange(step + 1).expand(len(states), step + 1)
        with torch.no_grad():
            expected = agent(
                returns[:, -window:],
                states[:, -window:],
                torch.cat([actions, unknown], 1)[:, -window:],
                times[:, -window:],
            )[:, -1]
        torch.testing.assert_close(action, expected, rtol=0, atol=2e-5, msg=lambda text, at=step: f"step {at}: {text}")
        assert action.abs().max() <= 1

        reward = 100 * torch.randn(len(states), generator=draw)
        actor.update(reward)
        actions = torch.cat([actions, action[:, None]], 1)
        rewards = torch.cat([rewards, reward[:, None]], 1)
        if step in KEEP:
            rows = torch.tensor(KEEP[step])
            actor.keep(rows)
            returns, states, actions, rewards, targets = (t[rows] for t in (returns, states, actions, rewards, targets))
    assert len(states) < len(TARGETS)


def test_window_acting_equals_the_model_on_the_last_steps(agent: Agent) -> None:
    """Also past K steps and past the timestep table."""
    play(agent, "window", 3 * K, K)


def test_recurrent_acting_equals_the_model_on_the_history(agent: Agent) -> None:
    """While the history fits the backbone's longest context."""
    play(agent, "recurrent", K, K)


@pytest.mark.parametrize("timestep", ["step", "none"])
@pytest.mark.parametrize("layout", ["rs", "sa", "s", "rsa"])
@pytest.mark.parametrize("backbone", ["transformer", "gloma", "mlp"])
def test_acting_equals_the_model_whatever_tokens_a_step_has(backbone: str, layout: str, timestep: str) -> None:
    agent = made_with(backbone, layout, timestep)
    play(agent, "window", 3 * K, K)
    play(agent, "recurrent", K, K)


def test_context_of_one_step_equals_the_model(agent: Agent) -> None:
    actor = make_actor(agent, "window", torch.tensor([10.0, 20.0]), 1)
    for step in range(3):
        states = torch.randn(2, 5)
        with torch.no_grad():
            expected = agent(
                torch.tensor([[10.0], [20.0]]) - 4 * step,
                states[:, None],
                torch.zeros(2, 1, 2),
                torch.full((2, 1), step),
            )[:, -1]
        torch.testing.assert_close(actor.act(states), expected, rtol=0, atol=1e-5)
        actor.update(torch.tensor([4.0, 4.0]))


def test_recurrent_acting_continues_past_the_context(agent: Agent) -> None:
    """Rows do not mix, and actions stay finite and bounded, for as long as an episode lasts."""
    pair, alone = (make_actor(agent, "recurrent", torch.full((n,), 500.0), K) for n in (2, 1))
    draw = torch.Generator().manual_seed(2)
    for _ in range(5 * K):
        states = torch.randn(2, 5, generator=draw)
        action = pair.act(states)
        torch.testing.assert_close(alone.act(states[1:]), action[1:], rtol=0, atol=2e-5)
        assert action.isfinite().all()
        assert action.abs().max() <= 1
        pair.update(torch.ones(2))
        alone.update(torch.ones(1))


@pytest.mark.parametrize("backbone", [mixers.Typed, "transformer"], ids=str)
def test_both_protocols_act_alike_past_the_context_with_one_layer_of_windows(backbone: str | type[Mixer]) -> None:
    """Complete steps leave the window in both, so tokens keep their kinds."""
    torch.manual_seed(5)
    stack = build(backbone, {}, Spec(16, n_layers=1, dropout=0.0, max_length=3 * K))
    agent = assemble(stack, vector_encoder(5, 16), ActionSpace(2), TokenConfig(50, 100.0)).eval()
    with torch.no_grad():
        for p in agent.parameters():
            p.add_(0.2 * torch.randn_like(p))
    actors = [make_actor(agent, acting, torch.tensor([500.0, 100.0]), K) for acting in ("window", "recurrent")]
    actions = []
    for step in range(6 * K):
        states = torch.randn(2, 5)
        first, second = (actor.act(states) for actor in actors)
        torch.testing.assert_close(first, second, rtol=0, atol=2e-5, msg=lambda text, at=step: f"step {at}: {text}")
        for actor in actors:
            actor.update(10 * states[:, 0])
        actions.append(first)
    assert torch.stack(actions).std(0).min() > 0.01


def test_actions_stay_within_their_bounds(agent: Agent) -> None:
    with torch.no_grad():
        for p in agent.head.parameters():
            p.fill_(1e6)
    for acting in ("window", "recurrent"):
        action = make_actor(agent, acting, torch.tensor([1e9]), K).act(1e4 * torch.ones(1, 5))
        assert action.abs().max() <= 1


def test_a_window_gets_its_first_or_the_current_timestep() -> None:
    """Of tokens that share one timestep. The table has rows for steps 0 to 5, and later ones share the last."""
    torch.manual_seed(5)
    stack = build("transformer", {}, Spec(16, n_layers=2, dropout=0.0, max_length=3 * K))
    tokens = TokenConfig(6, 100.0, timestep="window", context=K)
    agent = assemble(stack, vector_encoder(5, 16), ActionSpace(2), tokens).eval()
    with torch.no_grad():
        for p in agent.parameters():
            p.add_(0.3 * torch.randn_like(p))
    actors = {name: make_actor(agent, "window", torch.tensor([50.0]), K, name) for name in ("first", "current")}
    states, actions = torch.randn(1, 9, 5), {name: torch.zeros(1, 9, 2) for name in actors}
    returns = (50.0 - torch.arange(9.0)).unsqueeze(0)
    for step in range(9):
        window = slice(max(0, step + 1 - K), step + 1)
        for name, actor in actors.items():
            timestep = window.start if name == "first" else step
            times = torch.full((1, step + 1 - window.start), timestep)
            with torch.no_grad():
                expected = agent(returns[:, window], states[:, window], actions[name][:, window], times)[:, -1]
            action = actor.act(states[:, step])
            torch.testing.assert_close(action, expected, rtol=0, atol=2e-5)
            actions[name][:, step] = action
            actor.update(torch.ones(1))
    assert not torch.allclose(actions["first"], actions["current"], atol=1e-2)


def test_unknown_protocol_is_refused(agent: Agent) -> None:
    with pytest.raises(ValueError, match="window, recurrent"):
        make_actor(agent, "windows", torch.tensor([1.0]), K)
