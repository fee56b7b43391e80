"""RWKV-7 (Peng et al., arXiv:2503.14456): a decay for each channel, and a delta rule with rates for each channel.

    S_t = diag(w_t) S_{t-1} - (a_t ⊙ c_t) (c_t^T S_{t-1}) + k_t v_t^T,      o_t = S_t^T r_t

c_t is the unit key that is removed, a_t in (0, 1) the rate, w_t in (0.545, 1) the decay.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State, no_weight_decay
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import LinearMixer, LinearOptions

HEAD_EPS = 64e-5  # of the norm of each head, as in the authors' code
MIXED = 6  # what sees a mixture of the token and the one before: r, decay, k, v, rate, gate


@dataclass(frozen=True)
class RWKV7Options(LinearOptions):
    """Options of RWKV-7."""

    rank: int = 32  # of the projections to decays, rates and gates
    name: ClassVar[str] = "rwkv7"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(rank=1)


class RWKV7(LinearMixer):
    """The time mixing of RWKV-7, without the values that later layers take from the first."""

    Options: ClassVar[type] = RWKV7Options
    summary: ClassVar[str] = "RWKV-7: a generalised delta rule, diagonal plus low rank, recurrent step"
    paper: ClassVar[str] = "arXiv:2503.14456 (RWKV-7)"
    centred: ClassVar[bool] = True
    low_rank: ClassVar[bool] = True
    strongest: ClassVar[float] = -math.exp(-0.5)

    def __init__(self, options: RWKV7Options, spec: Spec) -> None:
        d, rank = spec.d_model, options.rank
        super().__init__(options, spec, d, d)
        channel, depth = torch.arange(d) / max(d - 1, 1), spec.layer / max(spec.n_layers - 1, 1)
        powers = torch.tensor([0.2, 0.9, 0.7, 0.7, 0.9, 0.2]) * (1 - spec.layer / spec.n_layers)
        self.mixture = nn.Parameter(1 - (torch.arange(d) / d) ** powers.unsqueeze(-1))
        self.r_proj, self.k_proj, self.v_proj = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.decay_down, self.rate_down, self.gate_down = (nn.Linear(d, rank, bias=False) for _ in range(3))
        self.decay_up, self.rate_up, self.gate_up = (nn.Linear(rank, d, bias=False) for _ in range(3))
        self.decay_bias = no_weight_decay(nn.Parameter(-6.5 + 5 * channel ** (0.85 + depth**0.5)))
        self.rate_bias = no_weight_decay(nn.Parameter(torch.zeros(d)))
        self.removed = nn.Parameter(torch.full((d,), 0.85))  # k_k in the authors' code
        self.rate_of_key = nn.Parameter(torch.ones(d))  # k_a
        self.bonus = nn.Parameter(torch.full((d,), -0.04))  # r_k: the token's own value, beside the state
        self.norm = nn.GroupNorm(options.n_heads, d, eps=HEAD_EPS)
        self.out_proj = nn.Linear(d, d, bias=False)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        last, memory = state or (x.new_zeros(len(x), 1, x.shape[-1]), None)
        change = torch.cat((last.to(x.dtype), x[:, :-1]), 1) - x
        x_r, x_w, x_k, x_v, x_a, x_g = (torch.addcmul(x, change, part) for part in self.mixture)
        log_decay = self.strongest * torch.sigmoid(self.decay_bias + self.decay_up(torch.tanh(self.decay_down(x_w))))
        rate = torch.sigmoid(self.rate_bias + self.rate_up(self.rate_down(x_a)))
        r, k, v = self.r_proj(x_r), self.k_proj(x_k), self.v_proj(x_v)
        removed = F.normalize(self.heads(k * self.removed), dim=-1)
        k = torch.addcmul(k, k, (rate - 1) * self.rate_of_key)
        r, k, v, log_decay, rate, bonus = (self.heads(part) for part in (r, k, v, log_decay, rate, self.bonus))
        o, memory = self.recur(Recurrence(r, k, v, log_decay, -removed, removed * rate), memory)
        y = self.norm(o[:, keep].flatten(0, 1).flatten(1)).unflatten(0, (len(x), -1))
        y = y + ((r * k * bonus).sum(-1, keepdim=True) * v)[:, keep].flatten(-2)
        gate = self.gate_up(torch.sigmoid(self.gate_down(x_g[:, keep])))
        return self.out_proj(y * gate), (x[:, -1:], memory)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The last input (batch, 1, d_model), and the matrices (batch, heads, d_k, d_v)."""
        zeros = self.zeros(batch, device, dtype)
        return zeros(1, self.spec.d_model), zeros(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        downs, ups = (self.decay_down, self.rate_down, self.gate_down), (self.decay_up, self.rate_up, self.gate_up)
        return self.r_proj, self.k_proj, self.v_proj, *downs, *ups

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)
