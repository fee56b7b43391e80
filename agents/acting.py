"""Acting: one decision per call, for a batch of environments that started together.

The two protocols give different actions, so the record names the one that ran:

* ``window``: recompute the last K steps at every decision, as in the papers.
* ``recurrent``: carry the backbone's state. A decision costs the same however long the episode is.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from backbench.agents.agent import Agent
from backbench.backbones.fast import State, map_state, select_rows
from backbench.backbones.fused import FusedLayers


class Actor(ABC):
    """Call `act`, then `update` with the rewards, then `keep` with the environments that continue."""

    def __init__(self, targets: Tensor) -> None:
        self.target = targets.clone()  # (n,) the return that is still to be earned
        self.time = 0
        self.action: Tensor | None = None  # of the previous step

    @abstractmethod
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """States (n, *observation) to actions (n, action_dim) or (n,); ``uniforms`` (n,) if the head samples."""

    def update(self, rewards: Tensor) -> None:
        """Subtract the rewards (n,) of the last actions from the return-to-go."""
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        """Continue with the environments at these indices (m,) only."""
        self.target = self.target[rows]
        self.action = None if self.action is None else self.action[rows]


class WindowActor(Actor):
    """Protocol ``window``: recompute the last K steps of all environments, as one batch, at each decision.

    Environments start together, so all windows have the same length and need no padding. The actor keeps the tokens and
    what the first layer projects from each. Only the last position goes through the end of the last layer and the head.

    If tokens do not slide, all get one timestep, as in training: the window's ``first``, or the ``current`` one, as in
    Decision Transformer's code for Atari.
    """

    def __init__(self, agent: Agent, targets: Tensor, context: int, timestep: str = "first") -> None:
        super().__init__(targets)
        self.agent = agent
        self.layers = FusedLayers(agent.backbone)
        self.context = context
        self.timestep = timestep
        self.window: State = None  # nested tensors (n, length, …)

    @torch.inference_mode()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        agent, tokenizer = self.agent, self.agent.tokenizer
        if tokenizer.slides:
            tokens = tokenizer.next_tokens(self.action, self.target, states, self.time)
            projected = self._append(agent.backbone.project(tokens))
        else:  # every token changes when the window moves, but not the encoded contents
            new = tokenizer.next_contents(self.action, self.target, states)
            contents = self._append(torch.stack(new, dim=1))
            time = self.time if self.timestep == "current" else max(0, self.time + 1 - self.context)
            timestep = torch.full((1, 1), time, device=contents.device)
            projected = agent.backbone.project(tokenizer.add_positions(contents, timestep))
        self.action = agent.decide(self.layers.mix(projected)[:, 0], uniforms)
        return self.action

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.window = select_rows(self.window, rows)

    def _append(self, new: State) -> State:
        """The window with new positions at its end."""
        size = self.agent.tokenizer.length(self.context)
        if self.window is not None:
            new = map_state(lambda *parts: torch.cat(parts, 1)[:, -size:], self.window, new)
        self.window = new
        return new


class RecurrentActor(Actor):
    """Protocol ``recurrent``: the tokens since the last decision go through ``Backbone.extend``."""

    def __init__(self, agent: Agent, targets: Tensor, context: int) -> None:
        super().__init__(targets)
        self.agent = agent
        self.layers = FusedLayers(agent.backbone)
        self.state = agent.backbone.initial_state(len(targets), device=targets.device)

    @torch.inference_mode()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        agent = self.agent
        tokens = agent.tokenizer.next_tokens(self.action, self.target, states, self.time)
        hidden, self.state = self.layers.extend(tokens, self.state)
        self.action = agent.decide(hidden[:, 0], uniforms)
        return self.action

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.state = select_rows(self.state, rows)


ACTING = ("window", "recurrent")


def make_actor(agent: Agent, acting: str, targets: Tensor, context: int, timestep: str = "first") -> Actor:
    """An actor for ``len(targets)`` environments. Raises ValueError if ``acting`` is none of ``ACTING``.

    ``timestep`` is that of :class:`WindowActor`.
    """
    if acting not in ACTING:
        raise ValueError(f"acting must be one of {', '.join(ACTING)}, not {acting!r}")
    if acting == "recurrent":
        return RecurrentActor(agent, targets, context)
    return WindowActor(agent, targets, context, timestep)
