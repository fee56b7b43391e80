"""Action heads: from the backbone's output at the state tokens to a loss and to actions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.registry import Registry


@dataclass(frozen=True)
class ActionSpace:
    """Discrete or continuous actions."""

    size: int  # number of discrete actions, or dimension of a continuous one
    discrete: bool = False
    temperature: float = 1.0  # discrete actions are sampled from softmax(logits / temperature); 0: the likeliest one


class ActionHead(nn.Module, ABC):
    """What every head offers. ``forward`` gives the parameters of the actions, ``(…, d_model) -> (…, out)``."""

    name: ClassVar[str]  # in `HEADS`
    discrete: ClassVar[bool]  # which action spaces it serves
    draws: bool = False  # whether ``act`` needs random numbers

    def __init__(self, d_model: int, actions: ActionSpace, bias: bool = True) -> None:
        super().__init__()
        self.project = nn.Linear(d_model, actions.size, bias)
        nn.init.normal_(self.project.weight, std=0.02)
        if bias:
            nn.init.zeros_(self.project.bias)

    @staticmethod
    @abstractmethod
    def sampling_at(temperature: float) -> str:
        """How ``act`` samples, as the record names it."""

    @abstractmethod
    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean loss over the steps where ``mask`` (batch, K) is true."""

    @abstractmethod
    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Actions for ``output`` (batch, out). If the head ``draws``, ``uniforms`` are (batch,) numbers in [0, 1)."""


class TanhHead(ActionHead):
    """Deterministic continuous actions in (-1, 1), trained by mean squared error (Decision Transformer, Gym)."""

    name = "tanh"
    discrete = False

    @staticmethod
    def sampling_at(temperature: float) -> str:
        return "deterministic"

    def forward(self, hidden: Tensor) -> Tensor:  # (…, d_model) -> (…, action_dim)
        return torch.tanh(self.project(hidden))

    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean over real steps and action dimensions; ``output`` and ``actions`` (batch, K, action_dim)."""
        weight = mask.unsqueeze(-1).to(output.dtype)
        total = ((output - actions) ** 2 * weight).sum()
        return total / (weight.sum() * actions.shape[-1])

    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return output


class CategoricalHead(ActionHead):
    """Discrete actions, trained by cross-entropy (Decision Transformer, Atari)."""

    name = "categorical"
    discrete = True

    def __init__(self, d_model: int, actions: ActionSpace) -> None:
        super().__init__(d_model, actions, bias=False)
        self.temperature = actions.temperature
        self.draws = actions.temperature > 0

    @staticmethod
    def sampling_at(temperature: float) -> str:
        return f"sampled at T={temperature:g}" if temperature > 0 else "greedy"

    def forward(self, hidden: Tensor) -> Tensor:  # (…, d_model) -> (…, n_actions)
        return self.project(hidden)  # type: ignore[no-any-return]

    def loss(self, output: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Mean over real steps; ``output`` (batch, K, n_actions), ``actions`` (batch, K) integer."""
        each = F.cross_entropy(output.flatten(0, 1), actions.flatten(), reduction="none")
        weight = mask.flatten().to(each.dtype)
        return (each * weight).sum() / weight.sum()

    def act(self, output: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Raises FloatingPointError if ``output`` is not finite."""
        if not bool(output.isfinite().all()):  # otherwise any integer would look like an action
            raise FloatingPointError("the agent's actions are not finite")
        if not self.draws:
            return output.argmax(-1)
        assert uniforms is not None, "this head samples: act needs random numbers"
        # By the cumulative distribution: an action depends on its own number only, not on the rest of the batch.
        cumulative = torch.softmax(output.double() / self.temperature, -1).cumsum(-1)
        drawn = (uniforms.double().to(output.device).unsqueeze(-1) >= cumulative).sum(-1)
        return drawn.clamp(max=output.shape[-1] - 1)


HEADS: Registry[type[ActionHead]] = Registry(
    kind="action head",
    builtin={"tanh": "backbench.agents.heads:TanhHead", "categorical": "backbench.agents.heads:CategoricalHead"},
    bases=(ActionHead,),
)


def head_for(discrete: bool) -> type[ActionHead]:
    """The head for discrete or for continuous action spaces."""
    return next(head for head in HEADS.all().values() if head.discrete == discrete)
