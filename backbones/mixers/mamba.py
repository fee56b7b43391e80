"""Mamba (Gu and Dao, arXiv:2312.00752), and its mixer as in Decision Mamba (Ota, arXiv:2403.19925)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, initialise_gpt2, no_weight_decay
from backbench.backbones.kernels.conv.conv import CAUSAL_CONV1D, causal_conv1d
from backbench.backbones.kernels.scan.scan import SELECTIVE_SCAN, selective_scan, selective_scan_extend
from backbench.errors import require

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4


@dataclass(frozen=True)
class MambaOptions:
    """Options of the Mamba mixer; the defaults are the paper's, and Decision Mamba's."""

    # States of each channel's recurrence.
    d_state: int = 16
    # Taps of the causal convolution before the scan.
    d_conv: int = 4
    # Channels of the recurrence, in multiples of d_model.
    expand: int = 2
    # Rank of the projection that makes the time step; 0 means d_model / 16, rounded up.
    dt_rank: int = 0
    # Whether a feed-forward network follows each mixer, as in Decision Mamba; false leaves a stack of bare blocks.
    mlp: bool = True
    # Activation of the feed-forward network: gelu, gelu_tanh or relu.
    activation: str = "gelu"
    # Implementation of the scan: auto takes the fastest there is.
    kernels: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("d_state", 1), ("d_conv", 1), ("expand", 1), ("dt_rank", 0)):
            value = getattr(self, name)
            require(value >= least, f"mamba: {name}={value}; give at least {least}")
        SELECTIVE_SCAN.require(self.kernels)


class MambaBlock(nn.Module):
    """The block between norm and residual: two projections in, convolution, selective scan, gate, projection out.

    ``window`` ends the memory of the scan after that many tokens. With a convolution of ``d_conv`` taps before it, a
    token sees the last ``window + d_conv - 1`` tokens.
    """

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int, dt_rank: int, kernels: str) -> None:
        super().__init__()
        channels = expand * d_model
        rank = dt_rank or math.ceil(d_model / 16)
        self.kernels = kernels
        # An implementation of the scan may come without a convolution of its own: that is then the fastest there is.
        conv_kernels = {"mamba_ssm": "causal_conv1d"}.get(kernels, kernels)
        self.conv_kernels = conv_kernels if conv_kernels in CAUSAL_CONV1D.here() else "auto"
        self.split = [rank, d_state, d_state]
        self.in_proj = nn.Linear(d_model, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(
            channels, channels, d_conv, groups=channels
        )  # holds the weights; the kernel applies them
        self.x_proj = nn.Linear(channels, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = no_weight_decay(nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(channels, 1)))
        self.D = no_weight_decay(nn.Parameter(torch.ones(channels)))
        self.out_proj = nn.Linear(channels, d_model, bias=False)

    def forward(self, x: Tensor, window: int | None = None, keep: slice = ALL) -> Tensor:
        """(batch, length, d_model) -> (batch, kept, d_model): the positions ``keep``."""
        return self.mix(self._branches(x, keep), window, keep, ALL)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The part of `forward` that looks at each token alone: the scan's branch and the gate's, (…, channels)."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        return u, gate

    def mix(self, projected: tuple[Tensor, Tensor], window: int | None, keep: slice, gates: slice) -> Tensor:
        """The rest of `forward`, at the positions ``keep``; ``gates`` are those among the gates that are given."""
        u, gate = projected
        u = causal_conv1d(u, self._taps(), self._conv_bias(), silu=True, implementation=self.conv_kernels)
        dt, B, C = self._selection(u)
        inputs = (u, dt, self._A(), B, C, self.D)
        if keep == ALL:
            y = selective_scan(*inputs, gate=gate, softplus=True, window=window, implementation=self.kernels)
        else:
            y = selective_scan(*inputs, softplus=True, window=window, implementation=self.kernels)
            y = y[:, keep] * F.silu(gate[:, gates])
        return self.out_proj(y)  # type: ignore[no-any-return]

    def initial_state(self, batch: int, device: Any, dtype: torch.dtype | None, window: int | None = None) -> State:
        """The convolution's last inputs; and the scan's state, or with a window its last inputs."""
        like = self.in_proj.weight

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, device=device or like.device, dtype=dtype or like.dtype)

        channels, d_state = self.A_log.shape
        taps = zeros(self.conv1d.kernel_size[0] - 1, channels)
        if window is None:
            return taps, zeros(d_state, channels)
        # A time step of softplus(-inf) = 0 makes what lies before the first token no token at all.
        dt = torch.full_like(zeros(window - 1, channels), -torch.inf)
        return taps, (zeros(window - 1, channels), dt, zeros(window - 1, d_state))

    def extend(self, x: Tensor, state: State, window: int | None = None, keep: slice = ALL) -> tuple[Tensor, State]:
        """Further tokens, (batch, count, d_model), after ``state``: O(1) work a token, or with a window O(window)."""
        taps, memory = state
        u, gate = self._branches(x, keep)
        before = taps.shape[1]
        seen = torch.cat((taps, u), 1)
        u = causal_conv1d(seen, self._taps(), self._conv_bias(), silu=True, implementation=self.conv_kernels)[
            :, before:
        ]
        taps = seen[:, seen.shape[1] - before :]
        dt, B, C = self._selection(u)
        if window is None:
            y, memory = selective_scan_extend(
                u, dt, self._A(), B, C, self.D, memory, softplus=True, implementation=self.kernels
            )
        else:
            # The window's inputs are scanned again, so nothing is subtracted and no error builds up.
            u, dt, B = (torch.cat((old, new), 1) for old, new in zip(memory, (u, dt, B), strict=True))
            C = F.pad(C, (0, 0, window - 1, 0))
            y = selective_scan(
                u, dt, self._A(), B, C, self.D, softplus=True, window=window, implementation=self.kernels
            )
            y = y[:, window - 1 :]
            memory = tuple(part[:, part.shape[1] - window + 1 :] for part in (u, dt, B))
        return self.out_proj(y[:, keep] * F.silu(gate)), (taps, memory)

    def initialise(self, residual_scale: float) -> None:
        """GPT-2's weights for the projections; Mamba's own for the time step, A (S4D-real), D and the convolution."""
        initialise_gpt2(self)
        channels, d_state = self.A_log.shape
        bound = self.split[0] ** -0.5
        with torch.no_grad():
            self.out_proj.weight.mul_(residual_scale)
            self.dt_proj.weight.uniform_(-bound, bound)
            dt = torch.exp(torch.empty(channels).uniform_(math.log(DT_MIN), math.log(DT_MAX))).clamp(min=DT_FLOOR)
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
            self.A_log.copy_(torch.arange(1.0, d_state + 1).log().expand(channels, -1))
            self.D.fill_(1.0)
        self.conv1d.reset_parameters()

    def flops_per_token(self, window: int | None = None) -> float:
        """Projections, 2 a tap and channel, and about 9 a channel and state for the scan (4 more with a window)."""
        layers = (self.in_proj, self.x_proj, self.dt_proj, self.out_proj)
        scan = (9 if window is None else 13) * self.A_log.numel()
        return float(sum(2 * layer.weight.numel() for layer in layers) + 2 * self.conv1d.weight.numel() + scan)

    def _selection(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., channels) -> the time step before its softplus (..., channels), B and C (..., state) that u chooses."""
        dt, B, C = self.x_proj(u).split(self.split, dim=-1)
        return self.dt_proj(dt), B, C

    def _branches(self, x: Tensor, keep: slice) -> tuple[Tensor, Tensor]:
        """The input projection: of all positions for the scan, of those that are kept for the gate.

        Two products, not one that is cut in two: the gradients of the halves would have to be put together again.
        """
        if keep == ALL and not torch.is_grad_enabled():
            return self.project(x)
        to_u, to_gate = self.in_proj.weight.chunk(2)
        return F.linear(x, to_u), F.linear(x[:, keep], to_gate)

    def _A(self) -> Tensor:
        return -torch.exp(self.A_log)

    def _taps(self) -> Tensor:
        return self.conv1d.weight.squeeze(1)

    def _conv_bias(self) -> Tensor:
        assert self.conv1d.bias is not None  # for the type checker: the layer is made with one
        return self.conv1d.bias


class Mamba(Mixer):
    """A Mamba block as a mixer. Its step is recurrent: the work and the state do not grow with the context."""

    Options: ClassVar[type] = MambaOptions

    def __init__(self, options: MambaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        o = options
        self.block = MambaBlock(spec.d_model, o.d_state, o.d_conv, o.expand, o.dt_rank, o.kernels)

    @property
    def ffn_activation(self) -> str | None:
        return self.options.activation if self.options.mlp else None

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        return self.block(x, None, keep)  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> State:
        return self.block.project(x)

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        return self.block.mix(projected, None, keep, keep)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        return self.block.initial_state(batch, device, dtype)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.block.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        return self.block.extend(x, state, None, keep)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.block.out_proj,)

    def initialise(self, residual_scale: float) -> None:
        self.block.initialise(residual_scale)

    def flops_per_token(self, length: int) -> float:
        return self.block.flops_per_token()
