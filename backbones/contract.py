"""What a backbone is: a causal map of token embeddings. A new one writes `forward`; the other methods have defaults.

Optional methods for speed are in :mod:`.fast`. docs/how-to/add-a-backbone.md has a complete example.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.backbones import flops
from backbench.backbones.fast import ALL, LAST, FastCausal, State, map_state, select_rows
from backbench.errors import UserError, require

__all__ = [
    "ALL", "LAST", "Backbone", "Causal", "Mixer", "NoOptions", "Spec", "State", "estimated_flops",
    "initialise_gpt2", "map_state", "no_weight_decay", "select_rows",
]  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """What the agent fixes for every backbone alike."""

    d_model: int  # width of a token embedding
    n_layers: int = 3  # layers of the residual stack
    dropout: float = 0.1  # probability of dropout on residual branches and attention weights
    tokens: tuple[str, ...] = ("return", "state", "action")  # kinds of one environment step's tokens, in their order
    max_length: int = 60  # the longest context, in tokens
    layer: int = 0  # index of the mixer's layer in the stack
    residual_scale: bool = True  # whether residual branches start times 1/sqrt(branches), as GPT-2's

    def __post_init__(self) -> None:
        for name, least in (("d_model", 1), ("n_layers", 1), ("max_length", 1), ("layer", 0)):
            value = getattr(self, name)
            integer = isinstance(value, int) and not isinstance(value, bool)
            require(integer and value >= least, f"spec: {name}={value!r}; give an integer of at least {least}")
        require(len(self.tokens) >= 1, "spec: tokens=(); give the kind of at least one token")
        holds = len(self.tokens) <= self.max_length
        require(holds, f"spec: max_length={self.max_length} does not hold one step of {len(self.tokens)} tokens")
        require(0 <= self.dropout < 1, f"spec: dropout={self.dropout!r}; give a number in [0, 1)")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one environment step."""
        return len(self.tokens)

    def first_kept(self, t: Tensor) -> Tensor:
        """Index of the first token that a window of max_length tokens still holds at token ``t``, elementwise.

        Whole steps leave the window, so it begins with a step's first token. A mixer may tell kinds by position.
        """
        surplus = (t + 1 - self.max_length).clamp(min=0)
        return -(-surplus // self.tokens_per_step) * self.tokens_per_step


@dataclass(frozen=True)
class NoOptions:
    """Options of a backbone that has none."""


class Causal(FastCausal):
    """The five methods that :class:`Mixer` and :class:`Backbone` share."""

    Options: ClassVar[type] = NoOptions  # the frozen dataclass of what a user may set
    summary: ClassVar[str] = ""  # one line for lists; default: the docstring's first line
    paper: ClassVar[str] = ""
    least_layers: ClassVar[int] = 1  # of a stack; a hybrid has one for each part
    # False declares that a token does not meet each weight once: experts, or a table of positions.
    uses_all_weights: ClassVar[bool] = True

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__()
        self.options = options
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape. Position t depends on positions <= t only. Any length >= 1."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")  # abstract: what a backbone is

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The state before the first token. ``device`` and ``dtype`` default to those of the parameters.

        Default: an empty window, (batch, max_length, d_model), and the number of tokens in each row, (batch,).
        """
        like = next(self.parameters(), torch.empty(0))
        device, dtype = device or like.device, dtype or like.dtype
        window = torch.zeros(batch, self.spec.max_length, self.spec.d_model, device=device, dtype=dtype)
        return window, torch.zeros(batch, dtype=torch.long, device=device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, d_model), state -> (batch, d_model), state: column t of `forward`, for t < max_length.

        Later, it is that of `forward` over the complete history, or over what :meth:`Spec.first_kept` keeps of it. A
        step may write into ``state``, so continue with the state that it returns.

        Default: keep up to max_length inputs and recompute `forward` over them. Each row is filled from the left, up
        to its own count. What follows is padding, which does not matter because `forward` is causal.
        """
        window, count = state
        rows = torch.arange(len(x_t), device=x_t.device)
        full = count == window.shape[1]
        if bool(full.any()):  # drop the oldest step: a window that began within a step would turn token kinds around
            size = self.spec.tokens_per_step
            window = torch.where(full[:, None, None], window.roll(-size, dims=1), window)
            count = count - size * full.long()
        window = window.index_put((rows, count), x_t)
        y = self(window[:, : int(count.max()) + 1])
        return y[rows, count], (window, count + 1)

    def reset(self, state: State, done: Tensor) -> State:
        """``state`` with the initial state in the rows where ``done``, a bool tensor (batch,), is true."""
        fresh = self.initial_state(len(done), device=done.device)

        def pick(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(done.view(-1, *[1] * (old.dim() - 1)), new.to(old), old)

        return map_state(pick, state, fresh)

    def flops(self, length: int) -> float | None:
        """Forward FLOPs per token (2 for a multiply-add), averaged over a context of ``length`` tokens.

        Default: the sum over its layers, see :mod:`.flops`. None, unknown, if `forward` multiplies more than they
        explain. Override it then.
        """
        return count_layers(self, length).value

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a layer under the name of a method: ``self.project(x)`` would call the method."""
        if isinstance(value, nn.Module | nn.Parameter) and callable(getattr(type(self), name, None)):
            raise UserError(f"{type(self).__name__}.{name} is a method of the contract; give the layer another name")
        super().__setattr__(name, value)


def count_layers(part: Causal, length: int) -> flops.Count:
    """What its layers tell of the FLOPs of a mixer or backbone; see :meth:`Causal.flops`."""
    return flops.count(part, length, part.spec.tokens_per_step, part.spec.d_model)


def estimated_flops(backbone: nn.Module) -> list[str]:
    """Names of the weights without a formula, which :meth:`Causal.flops` counts as one product a token each."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, part in backbone.named_modules()
        if isinstance(part, Causal) and type(part).flops is Causal.flops
        for name in count_layers(part, part.spec.max_length).estimated
    ]


def initialise_gpt2(*modules: nn.Module) -> None:
    """Weights of linear layers and embeddings ~ N(0, 0.02), biases zero (Radford et al., 2019).

    Parameters that carry ``_no_reinit``, as in Mamba's code, stay.
    """
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Linear | nn.Embedding) and not getattr(layer.weight, "_no_reinit", False):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None and not getattr(layer.bias, "_no_reinit", False):
            nn.init.zeros_(layer.bias)


def no_weight_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter that gets no weight decay. Biases, norms and embeddings never get any."""
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


class Backbone(Causal):
    """A complete stack, which the agent calls. Most plug-ins register a :class:`Mixer` instead."""


class Mixer(Causal):
    """Mixes tokens in one layer of the shared residual stack, which adds norms and a feed-forward network.

    The input of `forward` and `step` is already normalised.
    """

    ffn_activation: str | None = "gelu"  # of the feed-forward network that follows; None for no such network
    norm_kind: str = "layer"  # before it and before the feed-forward network: layer, or rms for RMSNorm

    def projections(self) -> Iterable[nn.Module]:
        """Modules whose linear layers and embeddings the stack initialises, as GPT-2's. Default: none.

        All other parameters keep the values that the mixer, or the package it comes from, gave them.
        """
        return ()

    def residual_outputs(self) -> Iterable[nn.Linear]:
        """Linear layers that the stack initialises scaled down: their output is added to the residual stream."""
        return ()

    def initialise(self, residual_scale: float) -> None:
        """Set the weights that a fresh mixer hands over. Residual outputs start times ``residual_scale``."""
        outputs = tuple(self.residual_outputs())
        initialise_gpt2(*self.projections(), *outputs)
        with torch.no_grad():
            for layer in outputs:
                layer.weight.mul_(residual_scale)
