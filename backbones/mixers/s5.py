"""S5 (Smith et al., arXiv:2208.04933): one state space with many inputs and outputs, started from HiPPO-LegS."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, no_weight_decay
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE
from backbench.backbones.mixers.lru import ComplexStates
from backbench.errors import require

SLOWEST = -1e-4  # largest real part of an eigenvalue


@dataclass(frozen=True)
class S5Options:
    """Options of S5."""

    # Real states, half as many complex ones. 0 means d_model, rounded up to a multiple of 2 `n_blocks`.
    d_state: int = 0
    n_blocks: int = 1  # HiPPO matrices on the diagonal at the start
    dt_min: float = 0.001  # smallest time step at the start
    dt_max: float = 0.1  # largest time step at the start
    mlp: bool = True  # whether a feed-forward network follows each mixer; false for bare blocks
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of the recurrence; auto chooses the fastest

    def __post_init__(self) -> None:
        require(self.n_blocks >= 1, f"s5: n_blocks={self.n_blocks}; give at least 1")
        fits = self.d_state >= 0 and self.d_state % (2 * self.n_blocks) == 0
        require(fits, f"s5: d_state={self.d_state}; give 0 or a multiple of {2 * self.n_blocks}, twice n_blocks")
        ordered = 0 < self.dt_min <= self.dt_max < math.inf
        require(ordered, f"s5: dt_min={self.dt_min}, dt_max={self.dt_max}; give 0 < dt_min <= dt_max")
        DIAGONAL_RECURRENCE.require(self.kernels)


def hippo(size: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (size / 2,) and eigenvectors (size, size / 2) of the normal part of HiPPO-LegS, double precision.

    One of each conjugate pair (section 3, appendix B). The first entry of a vector is real and positive: a library is
    free to turn it, and equal seeds should give equal weights on every machine.
    """
    n = torch.arange(size, dtype=torch.float64)
    root = torch.sqrt(n + 0.5)
    lower = torch.tril(root[:, None] * root)
    skew = torch.tril(lower, -1).t() - torch.tril(lower, -1)
    frequencies, vectors = torch.linalg.eigh(-1j * skew)
    vectors = vectors * vectors[0].conj() / vectors[0].abs()
    half = size // 2
    return torch.complex(torch.full((half,), -0.5, dtype=torch.float64), frequencies[:half]), vectors[:, :half]


class S5(ComplexStates):
    """The state space by zero-order hold, then GELU and a gate: v * sigmoid(W v). Its step is recurrent.

    a = exp(L dt) and the recurrence's input is (a - 1) / L * B x, with eigenvalues L and a time step for each state
    (section 3). Of conjugate pairs one is computed, and C counts it twice.
    """

    Options: ClassVar[type] = S5Options
    summary: ClassVar[str] = "S5: diagonal state space with many inputs and outputs, started from HiPPO"
    paper: ClassVar[str] = "arXiv:2208.04933 (S5)"

    def __init__(self, options: S5Options, spec: Spec) -> None:
        unit = 2 * options.n_blocks
        blocks = f"s5: n_blocks={options.n_blocks}, and d_model is {spec.d_model}; give at most that many"
        require(options.n_blocks <= spec.d_model, blocks)
        super().__init__(options, spec, (options.d_state or -(-spec.d_model // unit) * unit) // 2)
        self.ffn_activation = options.activation if options.mlp else None
        self.L = no_weight_decay(nn.Parameter(torch.empty(self.channels, 2)))  # eigenvalues: real, imaginary
        self.log_dt = no_weight_decay(nn.Parameter(torch.empty(self.channels)))
        self.gate_proj = nn.Linear(spec.d_model, spec.d_model)
        self._start()

    def _start(self) -> None:
        """B and C are normal in the coordinates of HiPPO, D is normal, time steps are uniform in their logarithm."""
        o, d, blocks = self.options, self.spec.d_model, self.options.n_blocks
        values, vectors = hippo(2 * self.channels // blocks)
        V = torch.block_diag(*[vectors] * blocks)  # type: ignore[no-untyped-call]
        B = V.mH @ (torch.randn(len(V), d, dtype=torch.float64) * d**-0.5).to(V.dtype)
        C = (torch.randn(d, len(V), dtype=torch.float64) * len(V) ** -0.5).to(V.dtype) @ V
        with torch.no_grad():
            self.L.copy_(torch.view_as_real(values.repeat(blocks)))
            self.B.copy_(torch.stack((B.real, B.imag), 1))
            self.C.copy_(torch.view_as_real(C))
            self.D.normal_()
            self.log_dt.uniform_(math.log(o.dt_min), math.log(o.dt_max))

    def projections(self) -> Iterable[nn.Module]:
        return (self.gate_proj,)

    def decays(self) -> Tensor:
        exponent = self.eigenvalues() * self.log_dt.exp()
        return torch.polar(exponent.real.exp(), exponent.imag)

    def scaled_B(self, a: Tensor) -> Tensor:
        eigenvalues = self.eigenvalues()
        scale = (torch.expm1(eigenvalues * self.log_dt.exp()) / eigenvalues).unsqueeze(-1)
        B = scale * torch.complex(self.B[:, 0], self.B[:, 1])
        return torch.stack((B.real, B.imag), 1)

    def leave(self, h: Tensor, x: Tensor) -> Tensor:
        v = F.gelu(self.read(2 * h, x))
        return v * self.gate_proj(v).sigmoid()  # type: ignore[no-any-return]

    def flops(self, length: int) -> float:
        """Those of the states and of the gate."""
        return self.of_states() + 2.0 * self.gate_proj.weight.numel()

    def eigenvalues(self) -> Tensor:
        """L, complex, (channels,): of continuous time, one of each conjugate pair."""
        return torch.complex(self.L[:, 0].clamp(max=SLOWEST), self.L[:, 1])
