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
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.contract import LAST, State, map_state, select_rows

ACTING = ("window", "recurrent")


class Actor(Protocol):
    """``act``, then ``update`` with what the environments answered, then ``keep`` those that go on."""

    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """States (n, *observation) to actions (n, action_dim) or (n,); ``uniforms`` (n,) for a head that draws."""

    def update(self, rewards: Tensor) -> None:
        """Rewards (n,) of the last actions: they come off the return-to-go."""

    def keep(self, rows: Tensor) -> None:
        """Go on with the environments at these indices (m,) only."""


class WindowActor:
    """Protocol ``window``: all environments as one batch, each decision over the last K steps afresh.

    Environments start together, so that all windows are equally long and there is no padding. What does not change from
    one window to the next, the tokens and what the first layer projects of each, is kept; and only the last position
    goes through the end of the last layer and the head.
    """

    def __init__(self, agent: Agent, targets: Tensor, context: int) -> None:
        self.agent = agent
        self.target = targets.clone()  # (n,) what is still to be earned
        self.time = 0
        self.action: Tensor | None = None  # of the step before
        self.context = context
        self.window = Sliding(TOKENS_PER_STEP * context - 1)  # the action of this step is what we are after

    @torch.inference_mode()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        agent, tokenizer = self.agent, self.agent.tokenizer
        if tokenizer.slides:
            tokens = tokenizer.next_tokens(self.action, self.target, states, self.time)
            prepared = self.window.append(agent.backbone.prepare(tokens))
        else:
            # Every token changes when the window moves on; what was encoded stays.
            new = tokenizer.next_contents(self.action, self.target, states)
            contents = self.window.append(torch.stack(new, dim=1))
            first = max(0, self.time + 1 - self.context)
            prepared = agent.backbone.prepare(
                tokenizer.place(contents, torch.full((1, 1), first, device=contents.device))
            )
        self.action = agent.head.act(agent.head(agent.backbone.last(prepared)), uniforms)
        return self.action

    def update(self, rewards: Tensor) -> None:
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        self.target = self.target[rows]
        self.action = None if self.action is None else self.action[rows]
        self.window.keep(rows)


class Sliding:
    """The last ``size`` positions of a growing sequence: nested tensors (n, length, …), in a buffer twice as long.

    So what is there already is copied once in ``size`` positions, not at every one.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.buffer: State = None
        self.start = self.end = 0

    def append(self, new: State) -> State:
        """Add positions at the end, drop as many at the start as there are too many; return those that are left."""
        count = _length(new)
        if self.buffer is None:
            self.buffer = map_state(lambda t: t.new_empty(len(t), 2 * self.size + count, *t.shape[2:]), new)
        if self.end + count > _length(self.buffer):
            moved = map_state(lambda t: t[:, self.start : self.end].clone(), self.buffer)
            self.start, self.end = 0, self.end - self.start
            map_state(lambda t, old: t[:, : self.end].copy_(old), self.buffer, moved)
        map_state(lambda t, part: t[:, self.end : self.end + count].copy_(part), self.buffer, new)
        self.end += count
        self.start = max(self.start, self.end - self.size)
        return map_state(lambda t: t[:, self.start : self.end], self.buffer)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.buffer = select_rows(self.buffer, rows)


def _length(state: State) -> int:
    """Positions of nested tensors (n, length, …)."""
    lengths: list[int] = []
    map_state(lambda t: lengths.append(t.shape[1]), state)
    return lengths[0]


class RecurrentActor:
    """Protocol ``recurrent``: the tokens since the last decision go through ``Backbone.extend``."""

    def __init__(self, agent: Agent, targets: Tensor) -> None:
        self.agent = agent
        self.target = targets.clone()
        self.state = agent.backbone.initial_state(len(targets), device=targets.device)
        self.time = 0
        self.action: Tensor | None = None

    @torch.inference_mode()
    def act(self, states: Tensor, uniforms: Tensor | None = None) -> Tensor:
        agent = self.agent
        tokens = agent.tokenizer.next_tokens(self.action, self.target, states, self.time)
        hidden, self.state = agent.backbone.extend(tokens, self.state, LAST)
        self.action = agent.head.act(agent.head(hidden[:, 0]), uniforms)
        return self.action

    def update(self, rewards: Tensor) -> None:
        self.target = self.target - rewards
        self.time += 1

    def keep(self, rows: Tensor) -> None:
        self.target = self.target[rows]
        self.action = None if self.action is None else self.action[rows]
        self.state = select_rows(self.state, rows)


def make_actor(agent: Agent, acting: str, targets: Tensor, context: int) -> Actor:
    """An actor for ``len(targets)`` environments; ``acting`` is one of ``ACTING``."""
    if acting == "window":
        return WindowActor(agent, targets, context)
    if acting == "recurrent":
        return RecurrentActor(agent, targets)
    raise ValueError(f"acting must be one of {', '.join(ACTING)}, not {acting!r}")
