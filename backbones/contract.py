"""What a backbone is: a causal map of token embeddings. A new one writes `forward`; the other methods have defaults.

Optional methods for speed are in :mod:`.fast`. docs/how-to/add-a-backbone.md has a complete example.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.backbones.fast import ALL, LAST, FastCausal, State, map_state, select_rows
from backbench.errors import require

__all__ = [
    "ALL", "LAST", "Backbone", "Causal", "Mixer", "NoOptions", "Spec", "State",
    "initialise_gpt2", "map_state", "no_weight_decay", "select_rows",
]  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """What the agent fixes for every backbone alike."""

    d_model: int  # width of a token embedding
    n_layers: int = 3  # layers of the residual stack
    dropout: float = 0.1  # probability of dropout on residual branches and attention weights
    tokens_per_step: int = 3  # tokens of one environment step: return-to-go, state, action
    max_length: int = 60  # the longest context, in tokens

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "tokens_per_step", "max_length"):
            value = getattr(self, name)
            integer = isinstance(value, int) and not isinstance(value, bool)
            require(integer and value >= 1, f"spec: {name}={value!r}; give an integer of at least 1")
        require(0 <= self.dropout < 1, f"spec: dropout={self.dropout!r}; give a number in [0, 1)")


@dataclass(frozen=True)
class NoOptions:
    """Options of a backbone that has none."""


class Causal(FastCausal):
    """The five methods that :class:`Mixer` and :class:`Backbone` share."""

    Options: ClassVar[type] = NoOptions  # the frozen dataclass of what a user may set
    summary: ClassVar[str] = ""  # one line for lists; default: the docstring's first line
    paper: ClassVar[str] = ""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__()
        self.options = options
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape. Position t depends on positions <= t only. Any length >= 1."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

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

        A step may write into ``state``, so continue with the state that it returns.

        Default: keep the last max_length inputs and recompute `forward` over them. Each row is filled from the left, up
        to its own count. What follows is padding, which does not matter because `forward` is causal.
        """
        window, count = state
        rows = torch.arange(len(x_t), device=x_t.device)
        full = count == window.shape[1]
        if bool(full.any()):  # drop the oldest token
            window = torch.where(full[:, None, None], window.roll(-1, dims=1), window)
            count = count - full.long()
        window = window.index_put((rows, count), x_t)
        y = self(window[:, : int(count.max()) + 1])
        return y[rows, count], (window, count + 1)

    def reset(self, state: State, done: Tensor) -> State:
        """``state`` with the initial state in the rows where ``done``, a bool tensor (batch,), is true."""
        fresh = self.initial_state(len(done), device=done.device)

        def pick(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(done.view(-1, *[1] * (old.dim() - 1)), new.to(old), old)

        return map_state(pick, state, fresh)

    def flops(self, length: int) -> float:
        """Forward FLOPs per token (2 for a multiply-add), averaged over a context of ``length`` tokens.

        Default: 2 for each weight of the linear layers. Override it if the backbone does other work.
        """
        return float(sum(2 * layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear)))


def initialise_gpt2(module: nn.Module) -> None:
    """Weights of linear layers and embeddings ~ N(0, 0.02), biases zero (Radford et al., 2019)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
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

    def residual_outputs(self) -> Iterable[nn.Linear]:
        """The linear layers whose output is added directly to the residual stream. They start scaled down."""
        return ()

    def initialise(self, residual_scale: float) -> None:
        """Set the weights of a fresh mixer: GPT-2's, with the residual outputs times ``residual_scale``."""
        initialise_gpt2(self)
        with torch.no_grad():
            for layer in self.residual_outputs():
                layer.weight.mul_(residual_scale)
