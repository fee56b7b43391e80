"""The Linear Recurrent Unit (Orvieto et al., arXiv:2303.06349): complex decays on a ring, the same for every token."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, no_weight_decay
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE
from backbench.backbones.kernels.diagonal.naive import of_recurrence
from backbench.backbones.mixers.diagonal import DiagonalMixer
from backbench.errors import require


@dataclass(frozen=True)
class LRUOptions:
    """Options of the LRU. The defaults are those of the paper's listing (appendix A)."""

    d_state: int = 0  # complex states; 0 means d_model
    r_min: float = 0.0  # smallest size of a decay at the start
    r_max: float = 1.0  # largest size of a decay at the start
    max_phase: float = 6.28  # decays start with phases between 0 and this
    mlp: bool = True  # whether a feed-forward network follows each mixer; false for bare blocks
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of the recurrence; auto chooses the fastest

    def __post_init__(self) -> None:
        require(self.d_state >= 0, f"lru: d_state={self.d_state}; give at least 0")
        ring = 0 <= self.r_min < self.r_max <= 1
        require(ring, f"lru: r_min={self.r_min}, r_max={self.r_max}; give 0 <= r_min < r_max <= 1")
        fits = 0 < self.max_phase <= 2 * math.pi
        require(fits, f"lru: max_phase={self.max_phase}; give a number above 0 and up to 2 pi (6.283)")
        DIAGONAL_RECURRENCE.require(self.kernels)


class ComplexStates(DiagonalMixer):
    """h_t = a h_{t-1} + B x_t with complex a and B that do not change in time, and y_t = Re(C h_t) + D x_t.

    Products with B and C are real ones, over real and imaginary parts.
    """

    complex_states = True

    def __init__(self, options: object, spec: Spec, channels: int) -> None:
        super().__init__(options, spec)
        self.channels = channels
        self.B = no_weight_decay(nn.Parameter(torch.empty(channels, 2, spec.d_model)))  # real, imaginary
        self.C = nn.Parameter(torch.empty(spec.d_model, channels, 2))  # real, imaginary
        self.D = no_weight_decay(nn.Parameter(torch.empty(spec.d_model)))

    def decays(self) -> Tensor:
        """a, complex, (channels,)."""
        raise NotImplementedError(f"{type(self).__name__} must define decays")  # abstract: each mixer has its own

    def scaled_B(self, a: Tensor) -> Tensor:
        """B as the recurrence with the decays ``a`` uses it, real and imaginary, (channels, 2, d_model)."""
        raise NotImplementedError(f"{type(self).__name__} must define scaled_B")  # abstract: each mixer has its own

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.decays()
        b = F.linear(x, self.scaled_B(a).flatten(0, 1)).to(self.D.dtype)
        return a, torch.view_as_complex(b.view(*b.shape[:2], -1, 2))

    def read(self, h: Tensor, x: Tensor) -> Tensor:
        """Re(C h) + D x, (batch, kept, d_model), of complex h or of its real and imaginary parts."""
        weight = torch.stack((self.C[..., 0], -self.C[..., 1]), -1).flatten(1)
        h = torch.view_as_real(h) if h.is_complex() else h
        return F.linear(h.flatten(-2), weight) + self.D * x

    def of_states(self) -> float:
        """FLOPs per token of the recurrence and of the products with B and C."""
        return of_recurrence(self.channels, is_complex=True) + 2.0 * (self.B.numel() + self.C.numel())


class LRU(ComplexStates):
    """The recurrence, then GELU and a gated linear unit, as in the paper's block. Its step is recurrent.

    a = exp(-exp(nu) + i exp(theta)), and gamma = sqrt(1 - |a|^2) at the start scales B x (section 3).
    """

    Options: ClassVar[type] = LRUOptions
    summary: ClassVar[str] = "Linear Recurrent Unit: complex decays that start on a ring"
    paper: ClassVar[str] = "arXiv:2303.06349 (LRU)"

    def __init__(self, options: LRUOptions, spec: Spec) -> None:
        d = spec.d_model
        super().__init__(options, spec, options.d_state or d)
        self.ffn_activation = options.activation if options.mlp else None
        empty = torch.empty(3, self.channels)
        self.nu_log, self.theta_log, self.gamma_log = (no_weight_decay(nn.Parameter(one.clone())) for one in empty)
        self.out_proj = nn.Linear(d, d)
        self.gate_proj = nn.Linear(d, d)
        self._start()

    def _start(self) -> None:
        """Decays uniform on the ring, weights normal, as the paper's listing."""
        o, d = self.options, self.spec.d_model
        with torch.no_grad():
            area, turn = torch.rand(2, self.channels).clamp(1e-6, 1 - 1e-6)
            self.nu_log.copy_(torch.log(-0.5 * torch.log(area * (o.r_max**2 - o.r_min**2) + o.r_min**2)))
            self.theta_log.copy_(torch.log(o.max_phase * turn))
            self.gamma_log.copy_(0.5 * torch.log(-torch.expm1(-2 * self.nu_log.exp())))
            self.B.normal_(std=(2 * d) ** -0.5)
            self.C.normal_(std=self.channels**-0.5)
            self.D.normal_()

    def projections(self) -> Iterable[nn.Module]:
        return (self.gate_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def decays(self) -> Tensor:
        return torch.polar(torch.exp(-self.nu_log.exp()), self.theta_log.exp())

    def scaled_B(self, a: Tensor) -> Tensor:
        return self.gamma_log.exp()[:, None, None] * self.B

    def leave(self, h: Tensor, x: Tensor) -> Tensor:
        y = F.gelu(self.read(h, x))
        return self.out_proj(y) * self.gate_proj(y).sigmoid()  # type: ignore[no-any-return]

    def flops(self, length: int) -> float:
        """Those of the states and of both projections."""
        return self.of_states() + 2.0 * (self.out_proj.weight.numel() + self.gate_proj.weight.numel())
