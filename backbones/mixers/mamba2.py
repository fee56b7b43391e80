"""Mamba-2 (Dao and Gu, arXiv:2405.21060): a selective state space whose decay is one number a head.

    S_t = exp(-A dt_t) S_{t-1} + B_t (dt_t x_t)^T,      y_t = S_t^T C_t + D x_t

All heads share B and C, as with one group in the paper.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State, no_weight_decay
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import NORM_EPS, LinearMixer, LinearOptions, ShortConv, TimeStep


@dataclass(frozen=True)
class Mamba2Options(LinearOptions):
    """Options of Mamba-2."""

    d_state: int = 64  # rows of each head's state
    d_conv: int = 4  # taps of the causal convolution before the recurrence
    expand: int = 2  # channels of the recurrence, as a multiple of d_model
    name: ClassVar[str] = "mamba2"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(d_state=1, d_conv=1, expand=1)


class Mamba2(LinearMixer):
    """The Mamba-2 block: one projection in, convolution, recurrence, gate, norm, projection out."""

    Options: ClassVar[type] = Mamba2Options
    summary: ClassVar[str] = "Mamba-2: state space duality, a matrix state a head with a recurrent step"
    paper: ClassVar[str] = "arXiv:2405.21060 (Mamba-2)"

    def __init__(self, options: Mamba2Options, spec: Spec) -> None:
        o, channels = options, options.expand * spec.d_model
        super().__init__(options, spec, o.n_heads * o.d_state, channels)
        self.split = [channels, channels + 2 * o.d_state, o.n_heads]  # gate, x with B and C, time step
        self.in_proj = nn.Linear(spec.d_model, sum(self.split), bias=False)
        self.conv = ShortConv(self.split[1], o.d_conv, bias=True)
        self.time_step = TimeStep(o.n_heads, 1.0)
        self.D = no_weight_decay(nn.Parameter(torch.ones(o.n_heads)))
        self.norm = nn.RMSNorm(channels, eps=NORM_EPS)
        self.out_proj = nn.Linear(channels, spec.d_model, bias=False)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        taps, memory = state or (None, None)
        gate, mixed, dt = self.in_proj(x).split(self.split, -1)
        mixed, taps = self.conv(mixed, taps)
        u, B, C = mixed.split([self.split[0], self.options.d_state, self.options.d_state], -1)
        u, (log_decay, dt) = self.heads(u), self.time_step(dt)
        recurrence = Recurrence(C.unsqueeze(-2), B.unsqueeze(-2), u * dt.unsqueeze(-1), log_decay)
        o, memory = self.recur(recurrence, memory)
        y = (o[:, keep] + self.D.unsqueeze(-1) * u[:, keep]).flatten(-2)
        return self.out_proj(self.norm(y * F.silu(gate[:, keep]))), (taps, memory)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The convolution's last inputs, and the matrices (batch, heads, d_state, channels of a head)."""
        zeros = self.zeros(batch, device, dtype)
        return zeros(self.options.d_conv - 1, self.split[1]), zeros(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        return (self.in_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)
