"""An agent's decision as a function of named tensors, without memory, so that other programs can run it.

Both functions take raw observations and returns: scales and statistics are inside. One environment, so n is 1.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from backbench.agents.agent import Agent
from backbench.backbones.fast import LAST
from backbench.benchmarks.export.real import in_real_numbers

STATE, NEXT = "state_", "next_state_"  # beginnings of the names of the tensors that are carried


class Graph(nn.Module):
    """A decision. ``inputs`` are examples by name, in their order; ``outputs`` are names."""

    inputs: dict[str, Tensor]
    outputs: list[str]

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent
        self.decision = "logits" if agent.head.discrete else "action"


def _action(agent: Agent, *lead: int) -> Tensor:
    size = agent.head.project.out_features
    return torch.zeros(lead, dtype=torch.int64) if agent.head.discrete else torch.zeros(*lead, size)


class Step(Graph):
    """One step of protocol ``recurrent``.

    ``observation`` (1, *shape), ``return_to_go`` (1,), ``previous_action`` (1, size) or (1,), ``timestep`` (1,) and the
    state -> ``action`` (1, size) or ``logits`` (1, actions), and the next state. At timestep 0 an episode begins: the
    previous action and the state are not used.
    """

    def __init__(self, agent: Agent, shape: tuple[int, ...]) -> None:
        super().__init__(in_real_numbers(agent))
        fresh, self._nested = pytree.tree_flatten(agent.backbone.initial_state(1))
        self._count = len(fresh)
        for i, leaf in enumerate(fresh):
            self.register_buffer(f"fresh_{i}", leaf.clone())
        self.inputs = {
            "observation": torch.zeros(1, *shape, dtype=torch.uint8 if len(shape) > 1 else torch.float32),
            "return_to_go": torch.zeros(1),
            "previous_action": _action(agent, 1),
            "timestep": torch.ones(1, dtype=torch.int64),
            **{f"{STATE}{i}": leaf.clone() for i, leaf in enumerate(fresh)},
        }
        self.outputs = [self.decision, *(f"{NEXT}{i}" for i in range(self._count))]

    def forward(
        self, observation: Tensor, return_to_go: Tensor, previous_action: Tensor, timestep: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        agent, tokenizer = self.agent, self.agent.tokenizer
        begins = timestep == 0
        fresh = [getattr(self, f"fresh_{i}") for i in range(self._count)]
        kept = [torch.where(begins, new, old) for new, old in zip(fresh, state, strict=True)]
        contents = tokenizer.next_contents(previous_action, return_to_go, observation)
        if tokenizer.embed_action is not None:
            earlier = tokenizer.tokens_at(contents[:1], (timestep - 1).clamp(min=0))
            contents = contents[1:]
            _, nested = agent.backbone.extend(earlier, self._nest(kept), LAST)
            after = pytree.tree_leaves(nested)
            kept = [torch.where(begins, old, new) for old, new in zip(kept, after, strict=True)]
        now = tokenizer.tokens_at(contents, timestep)
        hidden, nested = agent.backbone.extend(now, self._nest(kept), LAST)
        return agent.head(hidden[:, 0]), *pytree.tree_leaves(nested)

    def _nest(self, leaves: list[Tensor]) -> Any:
        # A step may write into its state, and a tracer refuses that for inputs and buffers.
        return pytree.tree_unflatten([leaf.clone() for leaf in leaves], self._nested)


class Window(Graph):
    """The decisions at each step of a window of K, as in training.

    ``observations`` (1, K, *shape), ``returns_to_go`` (1, K), ``actions`` (1, K, size) or (1, K) and ``timesteps``
    (1, K) -> ``action`` (1, K, size) or ``logits`` (1, K, actions). Position t depends on the steps up to t, without
    its own action, so what is not known yet may be anything.
    """

    def __init__(self, agent: Agent, shape: tuple[int, ...], context: int) -> None:
        super().__init__(agent)
        self.inputs = {
            "observations": torch.zeros(1, context, *shape, dtype=torch.uint8 if len(shape) > 1 else torch.float32),
            "returns_to_go": torch.zeros(1, context),
            "actions": _action(agent, 1, context),
            "timesteps": torch.arange(context)[None],
        }
        self.outputs = [self.decision]

    def forward(self, observations: Tensor, returns_to_go: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        return self.agent(returns_to_go, observations, actions, timesteps)  # type: ignore[no-any-return]
