"""HGRN2 (Qin et al., arXiv:2404.07904): a gated linear RNN whose state is widened by an outer product.

    S_t = diag(f_t) S_{t-1} + (1 - f_t) v_t^T,      o_t = S_t^T q_t,      f_t = b + (1 - b) sigmoid(W x_t)

The bound b grows with the layer, so that higher layers remember for longer.
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


@dataclass(frozen=True)
class HGRN2Options(LinearOptions):
    """Options of HGRN2."""

    name: ClassVar[str] = "hgrn2"


class HGRN2(LinearMixer):
    """A forget gate for each channel; what is forgotten is what is written."""

    Options: ClassVar[type] = HGRN2Options
    summary: ClassVar[str] = "HGRN2: forget gates with a bound that grows with the layer, recurrent step"
    paper: ClassVar[str] = "arXiv:2404.07904 (HGRN2)"

    def __init__(self, options: HGRN2Options, spec: Spec) -> None:
        d = spec.d_model
        super().__init__(options, spec, d, d)
        self.bound = spec.layer / spec.n_layers  # where the paper's learned bounds start
        self.in_proj = nn.Linear(d, 3 * d, bias=False)  # queries, forget gates, values
        self.norm = nn.RMSNorm(d, eps=NORM_EPS)
        self.out_proj = nn.Linear(d, d, bias=False)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        q, f, v = (self.heads(part) for part in self.in_proj(x).chunk(3, -1))
        k = (1 - self.bound) * torch.sigmoid(-f)  # 1 - f_t, without cancellation
        # Without a bound the gate may vanish, and its logarithm needs the other form.
        log_decay = torch.log1p(-k) if self.bound else F.logsigmoid(f)
        o, state = self.recur(Recurrence(F.silu(q), k, v, log_decay), state)
        return self.out_proj(self.norm(o[:, keep].flatten(-2))), state

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The matrices (batch, heads, d_k, d_v)."""
        return self.zeros(batch, device, dtype)(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        return (self.in_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)
