"""What the mixers with matrix states share: options, the contract's methods around one `run`, and a short convolution.

Each mixer gives q, k, v, decays and the low-rank term to :mod:`backbench.backbones.kernels.linear`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, no_weight_decay
from backbench.backbones.kernels.conv.causal_conv1d import causal_conv1d
from backbench.backbones.kernels.linear.linear_recurrence import (
    LINEAR_RECURRENCE,
    linear_recurrence,
    linear_recurrence_extend,
)
from backbench.backbones.kernels.linear.naive import Recurrence, of_recurrence
from backbench.errors import require

NORM_EPS = 1e-5
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4


@dataclass(frozen=True)
class LinearOptions:
    """Options that all mixers with matrix states have."""

    n_heads: int = 4  # heads, each with a state of its own; must divide the channels
    mlp: bool = True  # whether a feed-forward network follows each mixer
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh, relu or swiglu
    kernels: str = "auto"  # implementation of the recurrence; auto chooses the fastest
    name: ClassVar[str] = "linear"  # of the backbone, for errors

    def __post_init__(self) -> None:
        self.at_least(n_heads=1)
        LINEAR_RECURRENCE.require(self.kernels)

    def at_least(self, **least: int) -> None:
        """Raise UserError if an option is smaller."""
        for option, value in least.items():
            given = getattr(self, option)
            require(given >= value, f"{self.name}: {option}={given}; give at least {value}")


class LinearMixer(Mixer):
    """A mixer around `run`. The state is a matrix a head, so that work and state do not grow with the context."""

    low_rank: ClassVar[bool] = False  # whether the recurrence has the low-rank term
    strongest: ClassVar[float] = -math.inf  # what no log decay is below
    centred: ClassVar[bool] = False  # whether a norm of each head subtracts the mean: of one channel it leaves nothing

    def __init__(self, options: Any, spec: Spec, key_width: int, value_width: int) -> None:
        """Widths are over all heads. Raises UserError if they are no multiples of the number of heads."""
        super().__init__(options, spec)
        heads = options.n_heads
        for width in (key_width, value_width):
            fits = width % heads == 0
            require(
                fits, f"{options.name}: n_heads={heads} does not divide the {width} channels of d_model={spec.d_model}"
            )
        alone = f"{options.name}: n_heads={heads} gives heads of one channel, which their norm makes zero; give fewer"
        require(not self.centred or value_width > heads, alone)
        self.ffn_activation = options.activation if options.mlp else None
        self.sizes = (key_width // heads, value_width // heads)  # of a head's keys and values

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        """Tokens (batch, count, d_model) after ``state``: outputs at ``keep``, the next state.

        A state of None means the beginning and that no state is needed afterwards: the result's may be anything.
        """
        raise NotImplementedError(f"{type(self).__name__} must define run")  # abstract: each mixer has its own

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, None, ALL)[0]

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        return self.run(x, None, keep)[0]

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.run(x_t.unsqueeze(1), state, ALL)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        return self.run(x, state, keep)

    def recur(self, recurrence: Recurrence, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """o (batch, count, heads, d_v), and the next state unless ``state`` is None."""
        how: Any = {"implementation": self.options.kernels, "strongest": self.strongest}
        if state is None:
            return linear_recurrence(recurrence, **how), None
        return linear_recurrence_extend(recurrence, state, **how)

    def heads(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, heads, width / heads)."""
        return torch.unflatten(x, -1, (self.options.n_heads, -1))

    def zeros(self, batch: int, device: Any, dtype: torch.dtype | None) -> Callable[..., Tensor]:
        """A function that makes the zeros of an initial state, (batch, *shape)."""
        like = next(self.parameters())
        return lambda *shape: torch.zeros(batch, *shape, device=device or like.device, dtype=dtype or like.dtype)

    def flops(self, length: int) -> float:
        """Those of linear layers, convolutions and the recurrence."""
        layers = (layer for layer in self.modules() if isinstance(layer, nn.Linear | nn.Conv1d))
        products = sum(2.0 * layer.weight.numel() for layer in layers)
        return products + of_recurrence(*self.sizes, self.options.n_heads, self.low_rank)


class ShortConv(nn.Module):
    """A causal depthwise convolution and SiLU. Starts as PyTorch's layer."""

    def __init__(self, channels: int, taps: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, taps, groups=channels, bias=bias)  # weights; the kernel applies them

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x (batch, count, channels) after the inputs ``before`` (batch, taps - 1, channels): y, the next ``before``.

        None stands for zeros, and for nothing afterwards.
        """
        taps = self.conv.weight.squeeze(1)
        bias = taps.new_zeros(len(taps)) if self.conv.bias is None else self.conv.bias
        if before is None:
            return causal_conv1d(x, taps, bias, silu=True), None
        seen, length = torch.cat((before, x), 1), before.shape[1]
        return causal_conv1d(seen, taps, bias, silu=True)[:, length:], seen[:, seen.shape[1] - length :]


class TimeStep(nn.Module):
    """Mamba-2's log decay of each head: -A softplus(dt). A is uniform at the start, dt log-uniform in [0.001, 0.1]."""

    def __init__(self, heads: int, least: float) -> None:
        super().__init__()
        log_min, log_max = (torch.tensor(value).log() for value in (DT_MIN, DT_MAX))
        dt = torch.exp(log_min + torch.rand(heads) * (log_max - log_min)).clamp(min=DT_FLOOR)
        self.A_log = no_weight_decay(nn.Parameter(torch.empty(heads).uniform_(least, 16).log()))
        self.dt_bias = no_weight_decay(nn.Parameter(dt + torch.log(-torch.expm1(-dt))))  # the inverse of softplus

    def forward(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """(…, heads) -> the log decay and the positive time step, in single precision at least."""
        positive = F.softplus(dt.to(self.A_log.dtype) + self.dt_bias)
        return -torch.exp(self.A_log) * positive, positive


def unit(x: Tensor) -> Tensor:
    """x over its length along the last dimension, (…, d). 1e-6 guards zero vectors, as in DeltaNet's code."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)
