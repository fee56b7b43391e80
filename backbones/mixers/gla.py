"""Gated Linear Attention (Yang et al., arXiv:2312.06635): a decay for each channel of the keys, from the token.

S_t = diag(a_t) S_{t-1} + k_t v_t^T,      o_t = S_t^T q_t / sqrt(d_k),      a_t = sigmoid(W x_t)^(1/16)
"""

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

TEMPERATURE = 16  # of the decays: tau in the paper


@dataclass(frozen=True)
class GLAOptions(LinearOptions):
    """Options of Gated Linear Attention."""

    shrink_k: int = 2  # d_model, as a multiple of the channels of queries and keys
    rank: int = 16  # of the projection to the decays
    name: ClassVar[str] = "gla"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(shrink_k=1, rank=1)


class GLA(LinearMixer):
    """Linear attention with decays that depend on the token, and a gate of the output."""

    Options: ClassVar[type] = GLAOptions
    summary: ClassVar[str] = "Gated linear attention: a decay for each channel of the keys, recurrent step"
    paper: ClassVar[str] = "arXiv:2312.06635 (GLA)"

    def __init__(self, options: GLAOptions, spec: Spec) -> None:
        d, shrink = spec.d_model, options.shrink_k
        require(d % shrink == 0, f"gla: d_model={d} is not a multiple of shrink_k={shrink}; change one of them")
        super().__init__(options, spec, d // shrink, d)
        self.split = [d // shrink, d // shrink, d, options.rank]
        self.in_proj = nn.Linear(d, sum(self.split), bias=False)  # queries, keys, values, the decays' low rank
        self.decay_proj = nn.Linear(options.rank, d // shrink)
        self.gate_proj = nn.Linear(d, d, bias=False)
        self.norm = nn.RMSNorm(self.sizes[1], eps=NORM_EPS)
        self.out_proj = nn.Linear(d, d, bias=False)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        q, k, v, low = self.in_proj(x).split(self.split, -1)
        log_decay = F.logsigmoid(self.decay_proj(low)) / TEMPERATURE
        q, k, v, log_decay = (self.heads(part) for part in (q * self.sizes[0] ** -0.5, k, v, log_decay))
        o, state = self.recur(Recurrence(q, k, v, log_decay), state)
        gate = self.heads(self.gate_proj(x[:, keep]))
        return self.out_proj((self.norm(o[:, keep]) * F.silu(gate)).flatten(-2)), state

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The matrices (batch, heads, d_k, d_v)."""
        return self.zeros(batch, device, dtype)(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        return self.in_proj, self.decay_proj, self.gate_proj

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)
