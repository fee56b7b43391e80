"""Tokens, outputs and loss of a trajectory of three steps, computed by hand.

Rewards 1, 2, 3, so returns-to-go 6, 5, 3; states 3, 5, 7, standardised by mean 1 and spread 2 to 1, 2, 3;
actions 0.5, -0.5, 0.25; return scale 10. Each embedding writes to its own feature: return, state, action, time.
The backbone sums the tokens so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent, Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import VectorEncoder
from backbench.agents.heads import ActionSpace, TanhHead
from backbench.agents.tokenizer import LAYOUTS, TokenConfig
from backbench.backbones.contract import Backbone, NoOptions, Spec
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler

RETURNS = torch.tensor([[6.0, 5.0, 3.0]])
STATES = torch.tensor([[[3.0], [5.0], [7.0]]])
ACTIONS = torch.tensor([[[0.5], [-0.5], [0.25]]])
TIMES = torch.tensor([[0, 1, 2]])
TOKENS = [
    [0.6, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 0.5, 0.0],
    [0.5, 0.0, 0.0, 1.0],
    [0.0, 2.0, 0.0, 1.0],
    [0.0, 0.0, -0.5, 1.0],
    [0.3, 0.0, 0.0, 2.0],
    [0.0, 3.0, 0.0, 2.0],
    [0.0, 0.0, 0.25, 2.0],
]
# Sums up to s_1, s_2, s_3: (0.6, 1, 0, 0), (1.1, 3, 0.5, 2), (1.4, 6, 0, 7); times (1, 0.1, 2, 0.1).
BEFORE_TANH = [0.7, 2.6, 2.7]
# tanh: 0.604368, 0.989027, 0.991007. Errors: 0.104368, 1.489027, 0.741007. Squares: 0.010893, 2.217203, 0.549092.
LOSS = 0.925729
LOSS_OF_TWO = 1.114048


class RunningSum(Backbone):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def made_with(layout: str = "rsa", timestep: str = "step") -> Agent:
    encoder = VectorEncoder(torch.tensor([1.0]), torch.tensor([2.0]), 4)
    tokens = TokenConfig(max_timesteps=5, return_scale=10.0, layout=layout, timestep=timestep)
    made = assemble(RunningSum(NoOptions(), Spec(4, tokens=LAYOUTS[layout])), encoder, ActionSpace(1), tokens)
    tokenizer, head = made.tokenizer, made.head
    assert isinstance(head, TanhHead)
    with torch.no_grad():
        for place, layer in enumerate((tokenizer.embed_return, encoder.project, tokenizer.embed_action)):
            if layer is not None:
                layer.weight.copy_(torch.eye(4)[:, place : place + 1])
        if tokenizer.embed_timestep is not None:
            tokenizer.embed_timestep.weight.copy_(torch.arange(5.0)[:, None] * torch.eye(4)[3])
        head.project.weight.copy_(torch.tensor([[1.0, 0.1, 2.0, 0.1]]))
    tokenizer.norm = nn.Identity()  # type: ignore[assignment]
    return made


@pytest.fixture
def agent() -> Agent:
    return made_with()


def windows(**changes: Any) -> Windows:
    fields = {
        "returns_to_go": RETURNS,
        "states": STATES,
        "actions": ACTIONS,
        "timesteps": TIMES,
        "mask": torch.ones(1, 3, dtype=torch.bool),
    }
    return Windows(**(fields | changes))


def test_tokens_equal_hand_computed_ones(agent: Agent) -> None:
    tokens = agent.tokenizer(RETURNS, STATES, ACTIONS, TIMES)
    torch.testing.assert_close(tokens, torch.tensor([TOKENS]))


def test_tokens_between_two_decisions_equal_those_of_the_window(agent: Agent) -> None:
    """The previous step's action, then this step's return-to-go and state."""
    for step in range(3):
        before = ACTIONS[:, step - 1] if step else None
        ours = agent.tokenizer.next_tokens(before, RETURNS[:, step], STATES[:, step], int(TIMES[0, step]))
        torch.testing.assert_close(ours[0], torch.tensor(TOKENS[max(3 * step - 1, 0) : 3 * step + 2]))


@pytest.mark.parametrize("timestep", ["step", "none"])
@pytest.mark.parametrize(("layout", "kept"), [("rs", (0, 1)), ("sa", (1, 2)), ("s", (1,)), ("rsa", (0, 1, 2))])
def test_a_layout_has_its_kinds_of_tokens_only(layout: str, kept: tuple[int, ...], timestep: str) -> None:
    agent = made_with(layout, timestep)
    clock = torch.tensor([1.0, 1.0, 1.0, float(timestep == "step")])
    wanted = torch.tensor([[TOKENS[3 * step + kind] for step in range(3) for kind in kept]]) * clock
    torch.testing.assert_close(agent.tokenizer(RETURNS, STATES, ACTIONS, TIMES), wanted)
    arrived = []
    for step in range(3):
        before = ACTIONS[:, step - 1] if step else None
        arrived.append(agent.tokenizer.next_tokens(before, RETURNS[:, step], STATES[:, step], step))
    torch.testing.assert_close(torch.cat(arrived, 1), wanted[:, : agent.tokenizer.length(3)])
    # The output at the state tokens, by hand: the sum of the tokens up to there, times the head's weights.
    at_states = wanted.cumsum(1)[:, kept.index(1) :: len(kept)]
    output = torch.tanh(at_states @ torch.tensor([1.0, 0.1, 2.0, 0.1]))[..., None]
    torch.testing.assert_close(agent(RETURNS, STATES, ACTIONS, TIMES), output)


def test_tokens_are_normalised(agent: Agent) -> None:
    agent.tokenizer.norm = nn.LayerNorm(4)
    token = agent.tokenizer(RETURNS, STATES, ACTIONS, TIMES)[0, 7]  # (0, 3, 0, 2): mean 1.25, variance 1.6875
    expected = (torch.tensor([0.0, 3.0, 0.0, 2.0]) - 1.25) / 1.6875**0.5
    torch.testing.assert_close(token, expected, atol=1e-4, rtol=0)


def test_outputs_and_loss_equal_hand_computed_ones(agent: Agent) -> None:
    torch.testing.assert_close(
        agent(RETURNS, STATES, ACTIONS, TIMES).flatten(), torch.tensor(BEFORE_TANH).tanh(), atol=1e-6, rtol=0
    )
    assert agent.loss(windows()).item() == pytest.approx(LOSS, abs=2e-6)


def test_masked_steps_do_not_change_the_loss(agent: Agent) -> None:
    mask = torch.tensor([[True, True, False]])
    assert agent.loss(windows(mask=mask)).item() == pytest.approx(LOSS_OF_TWO, abs=2e-6)
    wild = ACTIONS.clone()
    wild[0, 2] = 1e6
    assert agent.loss(windows(actions=wild, mask=mask)).item() == pytest.approx(LOSS_OF_TWO, abs=2e-6)


def test_sampled_window_gives_the_same_loss(agent: Agent) -> None:
    """From an episode of the environment, padded from three steps to five, beside another episode."""
    episode = Episode(
        np.array([[3.0], [5.0], [7.0], [9.0]]), np.array([[0.5], [-0.5], [0.25]]), np.array([1.0, 2.0, 3.0]), True
    )
    other = Episode(np.full((9, 1), 50.0), np.ones((8, 1)), np.full(8, 100.0), False)
    data = Trajectories.from_episodes([other, episode, other])
    batch = WindowSampler(data, 5, 1, 0, torch.device("cpu")).windows(torch.tensor([8]))
    assert batch.returns_to_go.tolist() == [[6, 5, 3, 0, 0]]
    assert batch.states.tolist() == [[[3], [5], [7], [0], [0]]]
    assert batch.timesteps.tolist() == [[0, 1, 2, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True, False, False]]
    assert agent.loss(batch).item() == pytest.approx(LOSS, abs=2e-6)


def test_loss_is_a_mean_over_steps_not_windows() -> None:
    """A window of one step weighs a third of one of three, and action dimensions are averaged."""
    head = TanhHead(4, ActionSpace(2))
    output = torch.zeros(2, 3, 2)
    actions = torch.zeros(2, 3, 2)
    actions[0, :, 0] = 1.0  # squares: 1 in one of two dimensions, three steps
    actions[1, :, :] = 2.0  # squares: 4 in both, one valid step
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert head.loss(output, actions, mask).item() == pytest.approx((3 * 1 + 2 * 4) / (4 * 2))


def test_late_timesteps_share_the_last_row(agent: Agent) -> None:
    late = agent.tokenizer(RETURNS, STATES, ACTIONS, TIMES + 1000)
    assert late[..., 3].unique().tolist() == [4.0]


def test_statistics_are_saved_with_the_weights() -> None:
    encoder = VectorEncoder(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]), 3)
    other = VectorEncoder(torch.zeros(2), torch.ones(2), 3)
    other.load_state_dict(encoder.state_dict())
    states = torch.tensor([[5.0, -2.0]])  # standardised: 2, -1
    expected = torch.tensor([[2.0, -1.0]]) @ encoder.project.weight.T + encoder.project.bias
    torch.testing.assert_close(other(states), expected)
    with pytest.raises(ValueError, match="positive"):
        VectorEncoder(torch.zeros(2), torch.tensor([1.0, 0.0]), 3)
