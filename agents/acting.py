"""Acting: one decision a call for a batch of environments that started together.

Two protocols, which are different and are named in the record:

* ``window``: the last K steps are recomputed at every decision, as in the papers.
* ``recurrent``: state is carried by the backbone's ``step``; a decision costs the same however long the episode is.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from backbench.agents.agent import Agent
from backbench.backbones.contract import select_rows

ACTING = ("window", "recurrent")


class Actor(Protocol):
    """``act``, then ``update`` with what the environments answered, then ``keep`` those that go on."""

    def act(self, states: Tensor) -> Tensor:
        """States (n, *observation) to actions (n, action_dim)."""

    def update(self, rewards: Tensor) -> None:
        """Rewards (n,) of the last actions: they come off the return-to-go."""

    def keep(self, rows: Tensor) -> None:
        """Go on with the environments at these indices (m,) only."""


class WindowActor:
    """Protocol ``window``. No padding: environments start together, so that all windows are equally long."""

    def __init__(self, agent: Agent, targets: Tensor, context: int) -> None:
        self.agent, self.context = agent, context
        self.time = 0
        self.target = targets.clone()  # (n,) what is still to be earned
        self.returns: list[Tensor] = []
        self.states: list[Tensor] = []
        self.actions: list[Tensor] = []

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        self.returns = [*self.returns, self.target][-self.context :]
        self.states = [*self.states, states][-self.context :]
        kept = self.actions[len(self.actions) - (len(self.states) - 1) :]
        self.actions = [*kept, torch.zeros_like(self._blank(states))]
        steps = len(self.states)
        timesteps = torch.arange(self.time - steps + 1, self.time + 1, device=states.device)
        tokens = self.agent.tokenizer(
            torch.stack(self.returns, dim=1),
            torch.stack(self.states, dim=1),
            torch.stack(self.actions, dim=1),
            timesteps.expand(len(states), steps),
        )
        # The action of this step is what we are after: its token is dropped, not merely zero.
        hidden = self.agent.backbone(tokens[:, :-1])  # (n, 3 * steps - 1, d_model)
        action = self.agent.head.act(self.agent.head(hidden[:, -1]))
        self.actions[-1] = action
        return action

    def _blank(self, states: Tensor) -> Tensor:
        return states.new_zeros(len(states), self.agent.tokenizer.embed_action.in_features)

    def update(self, rewards: Tensor) -> None:
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        self.target = self.target[rows]
        for kept in (self.returns, self.states, self.actions):
            kept[:] = [t[rows] for t in kept]


class RecurrentActor:
    """Protocol ``recurrent``: three tokens go through ``Backbone.step`` a decision."""

    def __init__(self, agent: Agent, targets: Tensor) -> None:
        self.agent = agent
        self.target = targets.clone()
        self.state = agent.backbone.initial_state(len(targets), device=targets.device)
        self.time = 0

    @torch.no_grad()
    def act(self, states: Tensor) -> Tensor:
        tokenizer, backbone, head = self.agent.tokenizer, self.agent.backbone, self.agent.head
        now = torch.full((len(states),), self.time, dtype=torch.long, device=states.device)
        _, self.state = backbone.step(tokenizer.return_token(self.target, now), self.state)
        hidden, self.state = backbone.step(tokenizer.state_token(states, now), self.state)
        action = head.act(head(hidden))
        _, self.state = backbone.step(tokenizer.action_token(action, now), self.state)
        return action

    def update(self, rewards: Tensor) -> None:
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        self.target = self.target[rows]
        self.state = select_rows(self.state, rows)


def make_actor(agent: Agent, acting: str, targets: Tensor, context: int) -> Actor:
    """An actor for ``len(targets)`` environments; ``acting`` is one of ``ACTING``."""
    if acting == "window":
        return WindowActor(agent, targets, context)
    if acting == "recurrent":
        return RecurrentActor(agent, targets)
    raise ValueError(f"acting must be one of {', '.join(ACTING)}, not {acting!r}")
