"""Linear attention (Katharopoulos et al., arXiv:2006.16236): attention whose kernel is a product of features.

S_t = S_{t-1} + f(k_t) v_t^T,      z_t = z_{t-1} + f(k_t),      o_t = S_t^T f(q_t) / (z_t · f(q_t)),      f = elu + 1
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import LinearMixer, LinearOptions

EPS = 1e-6  # added to the normaliser, as in the authors' code


@dataclass(frozen=True)
class LinearAttentionOptions(LinearOptions):
    """Options of linear attention."""

    name: ClassVar[str] = "linear_attention"


class LinearAttention(LinearMixer):
    """Linear attention with its normaliser, which is a further column of the state: that of a value of 1."""

    Options: ClassVar[type] = LinearAttentionOptions
    summary: ClassVar[str] = "Linear attention with elu + 1 as features: a sum over all tokens, recurrent step"
    paper: ClassVar[str] = "arXiv:2006.16236 (linear transformer)"

    def __init__(self, options: LinearAttentionOptions, spec: Spec) -> None:
        super().__init__(options, spec, spec.d_model, spec.d_model)
        self.sizes = (self.sizes[0], self.sizes[1] + 1)
        self.qkv_proj = nn.Linear(spec.d_model, 3 * spec.d_model)
        self.out_proj = nn.Linear(spec.d_model, spec.d_model)

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        q, k, v = (self.heads(part) for part in self.qkv_proj(x).chunk(3, -1))
        o, state = self.recur(Recurrence(features(q), features(k), F.pad(v, (0, 1), value=1.0)), state)
        sums, normaliser = o[:, keep, :, :-1], o[:, keep, :, -1:]
        return self.out_proj((sums / (normaliser + EPS)).flatten(-2)), state

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The matrices and normalisers, (batch, heads, d_k, d_v + 1)."""
        return self.zeros(batch, device, dtype)(self.options.n_heads, *self.sizes)

    def projections(self) -> Iterable[nn.Module]:
        return (self.qkv_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)


def features(x: Tensor) -> Tensor:
    """elu(x) + 1, without the cancellation of large negative numbers."""
    return F.relu(x) + x.clamp(max=0).exp()
