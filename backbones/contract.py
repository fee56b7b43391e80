"""What a backbone is: a causal map of token embeddings, in parallel (`forward`) and one token at a time (`step`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from backbench.errors import require

ALL = slice(None)
LAST = slice(-1, None)
"""Positions of a sequence that are wanted."""

State: TypeAlias = Any
"""What a backbone carries from token to token: nested tuples, lists and dicts of tensors, each batch first."""


@dataclass(frozen=True)
class Spec:
    """What the agent fixes for every backbone alike."""

    # Width of a token embedding.
    d_model: int
    # Number of layers of the residual stack.
    n_layers: int = 3
    # Probability of dropout on residual branches and attention weights.
    dropout: float = 0.1
    # Tokens of one environment step: return-to-go, state, action.
    tokens_per_step: int = 3
    # The longest context, in tokens.
    max_length: int = 60

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "tokens_per_step", "max_length"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= 1, f"spec: {name}={value!r}; give a whole number of at least 1")
        require(0 <= self.dropout < 1, f"spec: dropout={self.dropout!r}; give a number in [0, 1)")


@dataclass(frozen=True)
class NoOptions:
    """Options of a backbone that has none."""


def map_state(fn: Callable[..., Any], *states: State) -> State:
    """Apply ``fn`` to the tensors in the same place of equally nested ``states``; the result is nested alike."""
    first = states[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return fn(*states)
    if isinstance(first, dict):
        return {key: map_state(fn, *(state[key] for state in states)) for key in first}
    if isinstance(first, tuple | list):
        items = [map_state(fn, *parts) for parts in zip(*states, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    raise TypeError(f"a state holds tensors in tuples, lists and dicts, not {type(first).__name__}")


def select_rows(state: State, index: Tensor) -> State:
    """The rows ``index`` (whole numbers or a mask, (batch,)) of every tensor of ``state``."""
    return map_state(lambda leaf: leaf[index], state)


class Causal(nn.Module):
    """What :class:`Backbone` and :class:`Mixer` share: the four methods, and a `step` for who writes only `forward`."""

    # The frozen dataclass of options; its fields are what a user may set.
    Options: ClassVar[type] = NoOptions

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__()
        self.options = options
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape; position t depends on positions <= t only; any length >= 1."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")  # the one method without a default

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """The positions ``keep`` of ``forward(x)``, (batch, kept, d_model), for a model that reads no others.

        Default: computes all and takes those. Whoever can leave out work does.
        """
        y: Tensor = self(x)
        if y.shape != x.shape:  # taking positions would hide it
            name = type(self).__name__
            raise RuntimeError(f"{name}.forward gave an output of size {tuple(y.shape)} for {tuple(x.shape)}")
        return y[:, keep]

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The state before the first token.

        Default: an empty window, (batch, max_length, d_model), and how many tokens each row holds, (batch,).
        ``device`` and ``dtype`` default to those of the parameters.
        """
        like = next(self.parameters(), torch.empty(0))
        device, dtype = device or like.device, dtype or like.dtype
        window = torch.zeros(batch, self.spec.max_length, self.spec.d_model, device=device, dtype=dtype)
        return window, torch.zeros(batch, dtype=torch.long, device=device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """(batch, d_model), state -> (batch, d_model), state: column t of `forward`, for t < max_length.

        The state that is given may be written into: go on with the one that is returned.

        Default: keep the last max_length inputs and recompute `forward` over them. Rows are filled from the left, each
        to its own count, so what lies to the right of a row's last token is padding that causality keeps out.
        """
        window, count = state
        rows = torch.arange(len(x_t), device=x_t.device)
        full = count == window.shape[1]
        if bool(full.any()):  # the oldest token makes room
            window = torch.where(full[:, None, None], window.roll(-1, dims=1), window)
            count = count - full.long()
        window = window.index_put((rows, count), x_t)
        y = self(window[:, : int(count.max()) + 1])
        return y[rows, count], (window, count + 1)

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Several tokens at once, (batch, count, d_model): what `step` gives at the positions ``keep``, and the state.

        Default: one step after the other.
        """
        columns = []
        for x_t in x.unbind(1):
            y_t, state = self.step(x_t, state)
            columns.append(y_t)
        return torch.stack(columns[keep], 1), state

    def reset(self, state: State, done: Tensor) -> State:
        """``state`` with the rows where ``done``, a bool tensor (batch,), is true put back to the initial state."""
        fresh = self.initial_state(len(done), device=done.device)

        def pick(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(done.view(-1, *[1] * (old.dim() - 1)), new.to(old), old)

        return map_state(pick, state, fresh)

    def flops_per_token(self, length: int) -> float:
        """Forward FLOPs a token (2 for a multiply-add), averaged over a context of ``length`` tokens.

        Default: 2 for each weight of the linear layers. Whoever mixes tokens by anything else adds it.
        """
        return float(sum(2 * layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear)))


class Backbone(Causal):
    """A whole stack: what the agent calls. Most register a :class:`Mixer` instead and get the shared residual stack."""

    def prepare(self, x: Tensor) -> State:
        """What can be computed of each token alone, (batch, length, …): kept from window to window when acting.

        Default: the tokens themselves.
        """
        return x

    def last(self, prepared: State) -> Tensor:
        """(batch, d_model): the last position of `forward`, of tokens that went through `prepare`."""
        return self.forward_at(prepared, LAST)[:, 0]


class Mixer(Causal):
    """What mixes tokens in one layer of the shared residual stack. Its input is already normalised."""

    def project(self, x: Tensor) -> State:
        """The part of `forward` that looks at each token alone: tensors (batch, length, …). Default: none."""
        return x

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        """The rest of `forward`: ``mix(project(x), keep)`` is ``forward(x)[:, keep]``. Override both or neither."""
        return self.forward_at(projected, keep)

    @property
    def ffn_activation(self) -> str | None:
        """Activation of the feed-forward network that follows the mixer; None for no such network."""
        return "gelu"

    def residual_outputs(self) -> Iterable[nn.Linear]:
        """The linear layers whose output is added to the residual stream as it is: they start scaled down."""
        return ()

    def initialise(self, residual_scale: float) -> None:
        """Set the weights of a fresh mixer: GPT-2's, with the residual outputs times ``residual_scale``."""
        initialise_gpt2(self)
        with torch.no_grad():
            for layer in self.residual_outputs():
                layer.weight.mul_(residual_scale)


def initialise_gpt2(module: nn.Module) -> None:
    """Weights of linear layers and embeddings ~ N(0, 0.02), biases zero (Radford et al., 2019)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def no_weight_decay(parameter: nn.Parameter) -> nn.Parameter:
    """Mark a parameter that is to get no weight decay, besides the biases, norms and embeddings that never do."""
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
