"""Atari agents: pixels, discrete actions, and tokens that know their position in the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent, Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import CONVOLUTIONS, PixelEncoder
from backbench.agents.heads import HEADS, ActionSpace, CategoricalHead, head_for
from backbench.agents.tokenizer import TokenConfig
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Spec

K, ACTIONS, PIXELS = 4, 5, (4, 84, 84)
TARGETS = (30.0, 20.0, 10.0, -5.0)
KEEP = {2: [0, 2, 3], 5: [1, 2], 7: [1]}


def space(temperature: float = 1.0) -> ActionSpace:
    return ActionSpace(ACTIONS, True, temperature)


def made(backbone: str, timestep: str = "step", embedding: str = "norm", temperature: float = 1.0) -> Agent:
    torch.manual_seed(5)
    stack = build(backbone, {}, Spec(16, n_layers=2, dropout=0.1, max_length=3 * K))
    tokens = TokenConfig(8, 10.0, 0.1, timestep, embedding, K)
    agent = assemble(stack, PixelEncoder("light", PIXELS, 16), space(temperature), tokens).eval()
    with torch.no_grad():
        for p in agent.parameters():
            p.mul_(2)  # outputs that differ visibly
    return agent


def frames(generator: torch.Generator, *lead: int) -> Tensor:
    return torch.randint(0, 256, (*lead, *PIXELS), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("backbone", BACKBONES.names())
@pytest.mark.parametrize(
    ("acting", "timestep", "embedding"),
    [
        ("window", "step", "norm"),
        ("window", "window", "tanh"),
        ("window", "window", "norm"),
        ("recurrent", "step", "tanh"),
    ],
)
def test_greedy_acting_equals_the_model_on_the_history(
    backbone: str, acting: str, timestep: str, embedding: str
) -> None:
    """Greedy actions are the argmax over the complete window. Some episodes end earlier than others."""
    agent = made(backbone, timestep, embedding, temperature=0.0)
    draw = torch.Generator().manual_seed(1)
    actor = make_actor(agent, acting, torch.tensor(TARGETS), K)
    n = len(TARGETS)
    returns, rewards = torch.empty(n, 0), torch.empty(n, 0)
    states, actions = torch.empty(n, 0, *PIXELS, dtype=torch.uint8), torch.empty(n, 0, dtype=torch.long)
    targets = torch.tensor(TARGETS)
    for step in range(2 * K + 2 if acting == "window" else K):
        now = frames(draw, len(states))
        action = actor.act(now)
        returns = torch.cat([returns, (targets - rewards.sum(1))[:, None]], 1)
        states = torch.cat([states, now[:, None]], 1)
        unknown = torch.full((len(states), 1), ACTIONS - 1)
        times = torch.arange(step + 1).expand(len(states), step + 1)
        with torch.no_grad():
            logits = agent(returns[:, -K:], states[:, -K:], torch.cat([actions, unknown], 1)[:, -K:], times[:, -K:])[
                :, -1
            ]
        assert torch.equal(action, logits.argmax(-1)), f"step {step}"
        reward = torch.randn(len(states), generator=draw).round()
        actor.update(reward)
        actions, rewards = torch.cat([actions, action[:, None]], 1), torch.cat([rewards, reward[:, None]], 1)
        if step in KEEP and acting == "window":
            rows = torch.tensor(KEEP[step])
            actor.keep(rows)
            returns, states, actions, rewards, targets = (t[rows] for t in (returns, states, actions, rewards, targets))


def test_window_timesteps_add_position_and_first_timestep() -> None:
    """By hand: tanh of the content + row of the window's first timestep + row of the position, and no norm."""
    agent = made("identity", "window", "tanh")
    tokenizer = agent.tokenizer
    assert tokenizer.embed_place is not None
    draw = torch.Generator().manual_seed(0)
    states, actions = frames(draw, 1, 2), torch.tensor([[3, 1]])
    returns, times = torch.tensor([[7.0, 5.0]]), torch.tensor([[2, 3]])
    out = tokenizer(returns, states, actions, times)[0]
    with torch.no_grad():
        for place in range(6):
            step, part = divmod(place, 3)
            content = (
                tokenizer.embed_return(returns[0, step : step + 1] / 10.0),
                tokenizer.encoder(states[0, step]),
                tokenizer.embed_action(actions[0, step]),
            )[part]
            expected = content.tanh() + tokenizer.embed_timestep.weight[2] + tokenizer.embed_place.weight[place]
            torch.testing.assert_close(out[place], expected, rtol=0, atol=1e-6)


def test_encoder_runs_once_per_step() -> None:
    """In training on batch * K states, when acting on one state per decision."""
    agent = made("mlp")
    seen: list[int] = []
    agent.tokenizer.encoder.convolutions[0].register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    draw = torch.Generator().manual_seed(0)
    agent(
        torch.zeros(3, K), frames(draw, 3, K), torch.zeros(3, K, dtype=torch.long), torch.zeros(3, K, dtype=torch.long)
    )
    assert seen == [3 * K]
    actor = make_actor(agent, "window", torch.zeros(2), K)
    for _ in range(3):
        actor.act(frames(draw, 2), torch.zeros(2))
        actor.update(torch.zeros(2))
    assert seen == [3 * K, 2, 2, 2]


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_encoder_is_a_function_of_each_state_alone(kind: str) -> None:
    encoder = PixelEncoder(kind, PIXELS, 8).eval()
    states = frames(torch.Generator().manual_seed(0), 2, 3)
    out = encoder(states)
    assert out.shape == (2, 3, 8)
    torch.testing.assert_close(out[1, 2], encoder(states[1, 2]), rtol=0, atol=1e-5)
    # A view whose neighbours share memory, as windows are made, is the same as a copy.
    single = torch.randint(0, 256, (2, 6, 84, 84), dtype=torch.uint8)
    view = single.unfold(1, 4, 1).permute(0, 1, 4, 2, 3)
    assert torch.equal(encoder(view), encoder(view.contiguous()))
    assert torch.equal(view[1, 2], single[1, 2:6])


def test_loss_is_cross_entropy_over_real_steps() -> None:
    head = CategoricalHead(3, space())
    logits = torch.randn(2, 3, ACTIONS)
    actions = torch.tensor([[0, 4, 2], [1, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    expected = -np.mean(
        [logits[b, k].log_softmax(-1)[actions[b, k]].item() for b, k in ((0, 0), (0, 1), (0, 2), (1, 0))]
    )
    assert head.loss(logits, actions, mask).item() == pytest.approx(expected, rel=1e-6)
    logits[1, 1:] = 1e30  # what padding holds weighs nothing
    assert head.loss(logits, actions, mask).item() == pytest.approx(expected, rel=1e-6)


def test_samples_follow_the_softmax_at_its_temperature() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5]])
    uniforms = (torch.arange(20_000) + 0.5) / 20_000  # every quantile once
    for temperature in (0.5, 1.0, 3.0):
        head = CategoricalHead(3, space(temperature))
        drawn = head.act(logits.expand(len(uniforms), -1), uniforms)
        shares = torch.bincount(drawn, minlength=ACTIONS) / len(uniforms)
        torch.testing.assert_close(shares, torch.softmax(logits[0] / temperature, -1), rtol=0, atol=1e-4)
    assert CategoricalHead(3, space(0.0)).act(logits).item() == 3
    edge = CategoricalHead(3, space()).act(logits.expand(2, -1), torch.tensor([0.0, 1.0 - 1e-9], dtype=torch.float64))
    assert edge.tolist() == [0, ACTIONS - 1]


def test_every_action_space_has_a_head_that_names_itself_and_its_sampling() -> None:
    assert {name: head.name for name, head in HEADS.all().items()} == {name: name for name in HEADS.names()}
    assert head_for(discrete=True) is CategoricalHead
    assert head_for(discrete=False).name == "tanh"
    assert head_for(discrete=False).sampling_at(0.5) == "deterministic"
    assert CategoricalHead.sampling_at(0.5) == "sampled at T=0.5"
    assert CategoricalHead.sampling_at(0.0) == "greedy"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_raise(temperature: float, wrong: float) -> None:
    logits = torch.zeros(2, ACTIONS)
    logits[1, 3] = wrong
    with pytest.raises(FloatingPointError, match="not finite"):
        CategoricalHead(3, space(temperature)).act(logits, torch.zeros(2))


def test_training_lowers_the_loss_on_pixels() -> None:
    agent = made("gloma").train()
    draw = torch.Generator().manual_seed(3)
    batch = Windows(
        torch.zeros(4, K), frames(draw, 4, K), torch.randint(0, ACTIONS, (4, K), generator=draw),
        torch.arange(K).expand(4, K), torch.ones(4, K, dtype=torch.bool),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(agent.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        loss = agent.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
