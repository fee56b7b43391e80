"""mLSTM, the matrix memory of xLSTM (Beck et al., arXiv:2405.04517), with exponential input gates.

    S_t = f_t S_{t-1} + i_t k_t v_t^T,      n_t = f_t n_{t-1} + i_t k_t,      h_t = S_t^T q_t / max(|n_t · q_t|, 1)

with i_t = exp(a_t), f_t = sigmoid(b_t) and keys over sqrt(d_k). All are kept times exp(-m_t), where
m_t = max(log f_t + m_{t-1}, a_t), so that no exponential overflows (equations 15 and 19 to 27).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.linear import NORM_EPS, LinearMixer, LinearOptions, ShortConv
from backbench.errors import require

BLOCK = 4  # channels of a block of the projections to queries, keys and values
EPS = 1e-6  # added to the normaliser, as in the authors' code


@dataclass(frozen=True)
class MLSTMOptions(LinearOptions):
    """Options of mLSTM."""

    expand: int = 2  # channels of the memory, as a multiple of d_model
    d_conv: int = 4  # taps of the convolution of queries and keys
    name: ClassVar[str] = "mlstm"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(expand=1, d_conv=1)


class MLSTM(LinearMixer):
    """The mLSTM block: projection up, convolution, matrix memory, norm of each head, gate, projection down."""

    Options: ClassVar[type] = MLSTMOptions
    summary: ClassVar[str] = "mLSTM of xLSTM: a matrix memory with exponential gates, recurrent step"
    paper: ClassVar[str] = "arXiv:2405.04517 (xLSTM)"
    centred: ClassVar[bool] = True

    def __init__(self, options: MLSTMOptions, spec: Spec) -> None:
        channels = options.expand * spec.d_model
        super().__init__(options, spec, channels, channels)
        fits = channels % BLOCK == 0
        require(
            fits, f"mlstm: {channels} channels of d_model={spec.d_model} are no multiple of {BLOCK}; change d_model"
        )
        self.sizes = (self.sizes[0], self.sizes[1] + 1)
        self.in_proj = nn.Linear(spec.d_model, 2 * channels, bias=False)
        self.conv = ShortConv(channels, options.d_conv, bias=True)
        self.qkv = nn.Parameter(torch.empty(3, channels // BLOCK, BLOCK, BLOCK))
        self.gates = nn.Linear(3 * channels, 2 * options.n_heads)  # input, forget
        self.norm = nn.Parameter(torch.ones(channels))
        self.skip = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, spec.d_model, bias=False)
        with torch.no_grad():  # as the authors' code: at the start, memories of 20 to 400 tokens
            self.qkv.normal_(0, (2 / (5 * spec.d_model)) ** 0.5)
            self.gates.weight.zero_()
            inputs, forgets = self.gates.bias.chunk(2)
            inputs.normal_(0, 0.1)
            forgets.copy_(torch.linspace(3, 6, options.n_heads))

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        taps, memory, stabiliser = state or (None, None, None)
        u, gate = self.in_proj(x).chunk(2, -1)
        c, taps = self.conv(u, taps)
        q, k, v = (blocks(part, weight) for part, weight in zip((c, c, u), self.qkv, strict=True))
        a, b = self.gates(torch.cat((q, k, v), -1)).chunk(2, -1)
        log_decay, log_input, m = stabilised(F.logsigmoid(b), a, stabiliser)
        k = self.heads(k) * (self.sizes[0] ** -0.5 * torch.exp(log_input)).unsqueeze(-1)
        values = F.pad(self.heads(v), (0, 1), value=1.0)  # the column of ones gives the normaliser
        o, memory = self.recur(Recurrence(self.heads(q), k, values, log_decay), memory)
        sums, normaliser = o[:, keep, :, :-1], o[:, keep, :, -1:]
        h = sums / (torch.maximum(normaliser.abs(), torch.exp(-m[:, keep]).unsqueeze(-1)) + EPS)
        h = F.layer_norm(h, h.shape[-1:], eps=NORM_EPS).flatten(-2) * self.norm + self.skip * c[:, keep]
        return self.out_proj(h * F.silu(gate[:, keep])), (taps, memory, m[:, -1])

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The convolution's last inputs, memories with normalisers (batch, heads, d_k, d_v + 1), stabilisers."""
        zeros, heads = self.zeros(batch, device, dtype), self.options.n_heads
        return zeros(self.options.d_conv - 1, len(self.skip)), zeros(heads, *self.sizes), zeros(heads)

    def projections(self) -> Iterable[nn.Module]:
        return (self.in_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def flops(self, length: int) -> float:
        return super().flops(length) + 2.0 * self.qkv.numel()


def blocks(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, channels) times a block-diagonal matrix with blocks (blocks, out, in)."""
    return torch.einsum("...bi,boi->...bo", torch.unflatten(x, -1, (-1, weight.shape[-1])), weight).flatten(-2)


def stabilised(log_f: Tensor, a: Tensor, m: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Log gates (batch, length, heads) to those of the stabilised memory, at most 0 but for rounding, and m_t.

    Outputs do not depend on m, so gradients need not pass it. Sums are in double precision, because they cancel.
    """
    with torch.no_grad():
        m = torch.zeros_like(a[:, 0]) if m is None else m
        total = log_f.double().cumsum(1)
        largest = running_maximum(torch.cat((m.double().unsqueeze(1), a - total), 1))[:, 1:]
        after = (total + largest).to(a.dtype)
        before = torch.cat((m.to(a.dtype).unsqueeze(1), after[:, :-1]), 1)
    return log_f + (before - after), a - after, after


def running_maximum(x: Tensor) -> Tensor:
    """The largest value of each sequence (batch, length, …) so far. ONNX has no operator for it."""
    if not torch.compiler.is_exporting():
        return torch.cummax(x, 1).values
    return torch.stack(list(accumulate(x.unbind(1), torch.maximum)), 1)
