"""Mamba (Gu and Dao, arXiv:2312.00752), used as a mixer as in Decision Mamba (Ota, arXiv:2403.19925)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, initialise_gpt2, no_weight_decay
from backbench.backbones.kernels.conv.causal_conv1d import CAUSAL_CONV1D, causal_conv1d
from backbench.backbones.kernels.conv.naive import of_conv
from backbench.backbones.kernels.scan.naive import ScanInputs, of_scan
from backbench.backbones.kernels.scan.selective_scan import (
    NEGATIVE,
    SELECTIVE_SCAN,
    selective_scan,
    selective_scan_extend,
)
from backbench.errors import require, suggest

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4
EIGENVALUES = ("positive", "negative")


@dataclass(frozen=True)
class MambaOptions:
    """Options of the Mamba mixer. The defaults are those of both papers."""

    d_state: int = 16  # states of each channel's recurrence
    d_conv: int = 4  # taps of the causal convolution before the scan
    expand: int = 2  # channels of the recurrence, as a multiple of d_model
    dt_rank: int = 0  # rank of the projection to the time step; 0 means d_model / 16, rounded up
    mlp: bool = True  # whether a feed-forward network follows each mixer, as in Decision Mamba; false for bare blocks
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    eigenvalues: str = "positive"  # `positive`: decays exp(dt A), in (0, 1). `negative`: 2 exp(dt A) - 1, in (-1, 1)
    kernels: str = "auto"  # implementation of the scan; auto chooses the fastest

    def __post_init__(self) -> None:
        for name, least in (("d_state", 1), ("d_conv", 1), ("expand", 1), ("dt_rank", 0)):
            value = getattr(self, name)
            require(value >= least, f"mamba: {name}={value}; give at least {least}")
        hint = suggest(self.eigenvalues, EIGENVALUES)
        require(self.eigenvalues in EIGENVALUES, f"mamba: unknown eigenvalues '{self.eigenvalues}'{hint}")
        fits = self.eigenvalues == "positive" or self.kernels in ("auto", *NEGATIVE)
        require(fits, f"mamba: kernels={self.kernels} has no negative eigenvalues; use {', '.join(NEGATIVE)} or auto")
        SELECTIVE_SCAN.require(self.kernels)


class MambaBlock(nn.Module):
    """The block between norm and residual: two projections in, convolution, selective scan, gate, projection out.

    ``window`` limits the memory of the scan to that many tokens. The convolution before it has ``d_conv`` taps, so a
    token sees the last ``window + d_conv - 1`` tokens.
    """

    def __init__(self, d_model: int, d_state: int, d_conv: int, expand: int, dt_rank: int, kernels: str) -> None:
        super().__init__()
        channels = expand * d_model
        rank = dt_rank or math.ceil(d_model / 16)
        self.kernels = kernels
        self.negative = False  # whether decays are 2 exp(dt A) - 1
        # If an implementation of the scan has no matching convolution, the fastest convolution runs.
        conv_kernels = {"mamba_ssm": "causal_conv1d"}.get(kernels, kernels)
        self.conv_kernels = conv_kernels if conv_kernels in CAUSAL_CONV1D.here() else "auto"
        self.split = [rank, d_state, d_state]
        self.in_proj = nn.Linear(d_model, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels)  # its weights; the kernel applies them
        self.x_proj = nn.Linear(channels, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = no_weight_decay(nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(channels, 1)))
        self.D = no_weight_decay(nn.Parameter(torch.ones(channels)))
        self.out_proj = nn.Linear(channels, d_model, bias=False)

    def forward(self, x: Tensor, window: int | None = None, keep: slice = ALL) -> Tensor:
        """(batch, length, d_model) -> (batch, kept, d_model), at the positions ``keep``."""
        return self.mix(self._branches(x, keep), window, keep, ALL)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The part of `forward` that depends on each token alone: the inputs of scan and gate, (…, channels) each."""
        return self.in_proj(x).chunk(2, dim=-1)  # type: ignore[no-any-return]

    def mix(self, projected: tuple[Tensor, Tensor], window: int | None, keep: slice, gates: slice) -> Tensor:
        """The rest of `forward`, at the positions ``keep``; ``gates`` are the same positions among the given gates."""
        u, gate = projected
        y = self._scan(self._scan_inputs(self._convolve(u)), window, gate if keep == ALL else None)
        y = y if keep == ALL else y[:, keep] * F.silu(gate[:, gates])
        return self.out_proj(y)  # type: ignore[no-any-return]

    def log_decays(self, x: Tensor) -> Tensor:
        """log |decay| of each state at each token: (batch, length, d_model) -> (batch, length, channels, d_state)."""
        inputs = self._scan_inputs(self._convolve(self.project(x)[0]))
        log_decays = F.softplus(inputs.dt).unsqueeze(-1) * inputs.A
        return (2 * torch.exp(log_decays) - 1).abs().log() if self.negative else log_decays

    def initial_state(self, batch: int, device: Any, dtype: torch.dtype | None, window: int | None = None) -> State:
        """The convolution's last inputs, and the scan's state or, with a window, the scan's last inputs."""
        like = self.in_proj.weight

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, device=device or like.device, dtype=dtype or like.dtype)

        channels, d_state = self.A_log.shape
        taps = zeros(self.conv1d.kernel_size[0] - 1, channels)
        if window is None:
            return taps, zeros(d_state, channels)
        # Positions before the first token have a time step of softplus(-inf) = 0, so they have no effect.
        dt = torch.full_like(zeros(window - 1, channels), -torch.inf)
        return taps, (zeros(window - 1, channels), dt, zeros(window - 1, d_state))

    def extend(self, x: Tensor, state: State, window: int | None = None, keep: slice = ALL) -> tuple[Tensor, State]:
        """Further tokens, (batch, count, d_model), after ``state``: O(1) work per token, or O(window) with a window."""
        taps, memory = state
        u, gate = self._branches(x, keep)
        before = taps.shape[1]
        seen = torch.cat((taps, u), 1)
        inputs = self._scan_inputs(self._convolve(seen)[:, before:])
        taps = seen[:, seen.shape[1] - before :]
        if window is None:
            y, memory = selective_scan_extend(inputs, memory, self.kernels)
        else:
            # Scanning the window's inputs again subtracts nothing, so no rounding error builds up.
            new = (inputs.x, inputs.dt, inputs.B)
            u, dt, B = (torch.cat(parts, 1) for parts in zip(memory, new, strict=True))
            C = F.pad(inputs.C, (0, 0, window - 1, 0))
            y = self._scan(inputs._replace(x=u, dt=dt, B=B, C=C), window)[:, window - 1 :]
            memory = tuple(part[:, part.shape[1] - window + 1 :] for part in (u, dt, B))
        return self.out_proj(y[:, keep] * F.silu(gate)), (taps, memory)

    def initialise(self, residual_scale: float) -> None:
        """GPT-2's weights for the projections, Mamba's own for the time step, A (S4D-real), D and the convolution."""
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

    def flops(self, window: int | None = None) -> float:
        """Those of the projections, the convolution and the scan."""
        layers = (self.in_proj, self.x_proj, self.dt_proj, self.out_proj)
        products = sum(2 * layer.weight.numel() for layer in layers)
        return float(products + of_conv(self.conv1d.weight) + of_scan(self.A_log, window))

    def _branches(self, x: Tensor, keep: slice) -> tuple[Tensor, Tensor]:
        """The input projection: at all positions for the scan, at the positions ``keep`` for the gate.

        Two products, because splitting one product would make autograd join the gradients of its halves.
        """
        if keep == ALL and not torch.is_grad_enabled():
            return self.project(x)
        to_u, to_gate = self.in_proj.weight.chunk(2)
        return F.linear(x, to_u), F.linear(x[:, keep], to_gate)

    def _convolve(self, u: Tensor) -> Tensor:
        taps, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        assert bias is not None  # for the type checker
        return causal_conv1d(u, taps, bias, silu=True, implementation=self.conv_kernels)

    def _scan_inputs(self, u: Tensor) -> ScanInputs:
        """u (batch, length, channels) selects the time step, B and C."""
        dt, B, C = self.x_proj(u).split(self.split, dim=-1)
        return ScanInputs(
            u, self.dt_proj(dt), -torch.exp(self.A_log), B, C, self.D, softplus=True, negative=self.negative
        )

    def _scan(self, inputs: ScanInputs, window: int | None, gate: Tensor | None = None) -> Tensor:
        return selective_scan(
            *inputs[:6], window=window, gate=gate, softplus=True, negative=self.negative, implementation=self.kernels
        )


class Mamba(Mixer):
    """A Mamba block as a mixer. Its step is recurrent: work and state do not grow with the context.

    Negative eigenvalues are those of Grazzi et al., arXiv:2411.12537: the decay is 2 exp(dt A) - 1.
    """

    Options: ClassVar[type] = MambaOptions
    summary: ClassVar[str] = "Mamba block: selective state space with a recurrent step"
    paper: ClassVar[str] = "arXiv:2403.19925 (Decision Mamba), arXiv:2312.00752 (Mamba)"

    def __init__(self, options: MambaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        o = options
        self.ffn_activation = o.activation if o.mlp else None
        self.block = MambaBlock(spec.d_model, o.d_state, o.d_conv, o.expand, o.dt_rank, o.kernels)
        self.block.negative = o.eigenvalues == "negative"

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

    def initialise(self, residual_scale: float) -> None:
        self.block.initialise(residual_scale)

    def flops(self, length: int) -> float:
        return self.block.flops()
