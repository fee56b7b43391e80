"""Retention (Sun et al., RetNet, arXiv:2307.08621): each head decays at a constant rate; positions rotate.

    S_t = g S_{t-1} + k_t v_t^T,      o_t = S_t^T q_t / sqrt(d_k),      g = 1 - 2^(-5 - head)

Queries and keys are rotated by their positions, as in RoPE (arXiv:2104.09864).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import NORM_EPS, LinearMixer, LinearOptions
from backbench.errors import require

BASE = 10_000.0  # the slowest rotation turns once in 2 pi BASE tokens


@dataclass(frozen=True)
class RetNetOptions(LinearOptions):
    """Options of RetNet."""

    expand_v: int = 2  # channels of the values, as a multiple of d_model
    name: ClassVar[str] = "retnet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(expand_v=1)


class RetNet(LinearMixer):
    """Multi-scale retention: a constant decay a head, rotated queries and keys, a gate of the output."""

    Options: ClassVar[type] = RetNetOptions
    summary: ClassVar[str] = "Retention: linear attention with a constant decay a head, recurrent step"
    paper: ClassVar[str] = "arXiv:2307.08621 (RetNet)"

    def __init__(self, options: RetNetOptions, spec: Spec) -> None:
        d, values = spec.d_model, options.expand_v * spec.d_model
        super().__init__(options, spec, d, values)
        even = self.sizes[0] % 2 == 0
        require(even, f"retnet: heads of {self.sizes[0]} channels do not rotate in pairs; give another n_heads")
        self.split = [d, d, values]
        self.qkv_proj = nn.Linear(d, sum(self.split), bias=False)
        self.gate_proj = nn.Linear(d, values, bias=False)
        self.norm = nn.RMSNorm(self.sizes[1], eps=NORM_EPS)
        self.out_proj = nn.Linear(values, d, bias=False)
        self.log_decays = [math.log1p(-(2.0 ** (-5 - head))) for head in range(options.n_heads)]

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        batch, length, _ = x.shape
        memory, seen = state or (None, torch.zeros(1, dtype=torch.long, device=x.device))
        q, k, v = (self.heads(part) for part in self.qkv_proj(x).split(self.split, -1))
        turn = rotation(seen.unsqueeze(1) + torch.arange(length, device=x.device), self.sizes[0], x.dtype)
        q, k = rotated(q * self.sizes[0] ** -0.5, *turn), rotated(k, *turn)
        decay = x.new_tensor(self.log_decays).expand(batch, length, -1)
        o, memory = self.recur(Recurrence(q, k, v, decay), memory)
        gate = self.heads(self.gate_proj(x[:, keep]))
        return self.out_proj((self.norm(o[:, keep]) * F.silu(gate)).flatten(-2)), (memory, seen + length)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The matrices (batch, heads, d_k, d_v), and the number of tokens so far, (batch,)."""
        memory = self.zeros(batch, device, dtype)(self.options.n_heads, *self.sizes)
        return memory, torch.zeros(batch, dtype=torch.long, device=memory.device)

    def projections(self) -> Iterable[nn.Module]:
        return self.qkv_proj, self.gate_proj

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)


def rotation(positions: Tensor, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions (batch, length): (batch, length, 1, width / 2) each.

    Angles are in double precision: in single precision they would lose a digit for each factor of ten.
    """
    rates = BASE ** -torch.linspace(0, 1, width // 2, dtype=torch.float64, device=positions.device)
    angles = (positions.unsqueeze(-1) * rates).unsqueeze(-2)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (…, width) with its first and second half as the two coordinates of width / 2 points."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
