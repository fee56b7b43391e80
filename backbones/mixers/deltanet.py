"""DeltaNet (Yang et al., arXiv:2406.06484) and Gated DeltaNet (arXiv:2412.06464): fast weights by the delta rule.

    S_t = exp(g_t) (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T,      o_t = S_t^T q_t / sqrt(d_k)

A write replaces what the state holds for the key k_t by v_t, at the rate b_t in (0, 1). With ``negative`` b_t is in
(0, 2): an eigenvalue 1 - b_t below zero flips a sign, which parity needs (Grazzi et al., arXiv:2411.12537).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import NORM_EPS, LinearMixer, LinearOptions, ShortConv, TimeStep, unit


@dataclass(frozen=True)
class DeltaNetOptions(LinearOptions):
    """Options of DeltaNet."""

    expand_v: int = 1  # channels of the values, as a multiple of d_model
    d_conv: int = 4  # taps of the convolution of queries, keys and values
    negative: bool = False  # rates in (0, 2) instead of (0, 1), so that eigenvalues are in (-1, 1)
    name: ClassVar[str] = "deltanet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(expand_v=1, d_conv=1)


class DeltaNet(LinearMixer):
    """The delta rule, with a short convolution before it and a norm of each head after it."""

    Options: ClassVar[type] = DeltaNetOptions
    summary: ClassVar[str] = "DeltaNet: a matrix state that replaces values by the delta rule, recurrent step"
    paper: ClassVar[str] = "arXiv:2406.06484 (DeltaNet), arXiv:2411.12537 (negative eigenvalues)"
    low_rank: ClassVar[bool] = True

    def __init__(self, options: DeltaNetOptions, spec: Spec) -> None:
        values = options.expand_v * spec.d_model
        super().__init__(options, spec, spec.d_model, values)
        self.split = [spec.d_model, spec.d_model, values]
        self.qkv_proj = nn.Linear(spec.d_model, sum(self.split), bias=False)
        self.rate_proj = nn.Linear(spec.d_model, options.n_heads, bias=False)
        self.conv = ShortConv(sum(self.split), options.d_conv)
        self.norm = nn.RMSNorm(self.sizes[1], eps=NORM_EPS)
        self.out_proj = nn.Linear(values, spec.d_model, bias=False)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        taps, memory = state or (None, None)
        mixed, taps = self.conv(self.qkv_proj(x), taps)
        q, k, v = (self.heads(part) for part in mixed.split(self.split, -1))
        q, k = unit(q) * self.sizes[0] ** -0.5, unit(k)
        rate = torch.sigmoid(self.rate_proj(x)).unsqueeze(-1) * (2 if self.options.negative else 1)
        log_decay = self.log_decay(x)
        read = -k if log_decay is None else -k * torch.exp(log_decay).unsqueeze(-1)
        o, memory = self.recur(Recurrence(q, rate * k, v, log_decay, read), memory)
        return self.out_proj(self.finish(o[:, keep], x[:, keep]).flatten(-2)), (taps, memory)

    def log_decay(self, x: Tensor) -> Tensor | None:
        """(batch, length, heads); None for no decay."""
        return None

    def finish(self, o: Tensor, x: Tensor) -> Tensor:
        """o (…, heads, d_v) and the mixer's input x (…, d_model) to what is projected, as o."""
        return self.norm(o)  # type: ignore[no-any-return]

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The convolution's last inputs, and the matrices (batch, heads, d_k, d_v)."""
        zeros = self.zeros(batch, device, dtype)
        return zeros(self.options.d_conv - 1, sum(self.split)), zeros(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        return self.qkv_proj, self.rate_proj

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)


@dataclass(frozen=True)
class GatedDeltaNetOptions(DeltaNetOptions):
    """Options of Gated DeltaNet."""

    expand_v: int = 2  # channels of the values, as a multiple of d_model
    name: ClassVar[str] = "gated_deltanet"


class GatedDeltaNet(DeltaNet):
    """The delta rule with Mamba-2's decay, and a gate of the output."""

    Options: ClassVar[type] = GatedDeltaNetOptions
    summary: ClassVar[str] = "Gated DeltaNet: the delta rule with a decay and an output gate, recurrent step"
    paper: ClassVar[str] = "arXiv:2412.06464 (Gated DeltaNet), arXiv:2411.12537 (negative eigenvalues)"

    def __init__(self, options: GatedDeltaNetOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.dt_proj = nn.Linear(spec.d_model, options.n_heads, bias=False)
        self.gate_proj = nn.Linear(spec.d_model, self.split[-1], bias=False)
        self.time_step = TimeStep(options.n_heads, 0.01)

    def log_decay(self, x: Tensor) -> Tensor:
        return self.time_step(self.dt_proj(x))[0]  # type: ignore[no-any-return]

    def finish(self, o: Tensor, x: Tensor) -> Tensor:
        return self.norm(o) * F.silu(self.heads(self.gate_proj(x)))  # type: ignore[no-any-return]

    def projections(self) -> Iterable[nn.Module]:
        return self.qkv_proj, self.rate_proj, self.dt_proj, self.gate_proj
