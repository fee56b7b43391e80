"""sLSTM, the scalar memory of xLSTM (Beck et al., arXiv:2405.04517): an LSTM with exponential gates and heads.

    c_t = f_t c_{t-1} + i_t tanh(z_t),      n_t = f_t n_{t-1} + i_t,      h_t = sigmoid(o_t) c_t / n_t

with i_t = exp(a_t) and f_t = sigmoid(b_t). a, b, z and o see the token and h_{t-1} of their own head. c and n are kept
times exp(-m_t), where m_t = max(log f_t + m_{t-1}, a_t), so that no exponential overflows (equations 8 to 17).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Spec, State
from backbench.backbones.mixers.linear import NORM_EPS, LinearMixer, ShortConv
from backbench.errors import require

GATES = 4  # a of the input gate, b of the forget gate, z, o
MEMORY = 4  # c, n, m, h


@dataclass(frozen=True)
class SLSTMOptions:
    """Options of sLSTM."""

    n_heads: int = 4  # heads, between which the recurrent weights are zero
    d_conv: int = 4  # taps of the convolution before the input and forget gates
    mlp: bool = True  # whether a feed-forward network follows each mixer
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    name: ClassVar[str] = "slstm"

    def __post_init__(self) -> None:
        for option in ("n_heads", "d_conv"):
            given = getattr(self, option)
            require(given >= 1, f"slstm: {option}={given}; give at least 1")


class SLSTM(LinearMixer):
    """The sLSTM layer: convolution, gates of each head, the recurrence, and a norm of each head.

    The recurrence is not linear in its state, so it is a loop over tokens, also in training.
    """

    Options: ClassVar[type] = SLSTMOptions
    summary: ClassVar[str] = "sLSTM of xLSTM: an LSTM with exponential gates and heads"
    paper: ClassVar[str] = "arXiv:2405.04517 (xLSTM)"
    centred: ClassVar[bool] = True

    def __init__(self, options: SLSTMOptions, spec: Spec) -> None:
        super().__init__(options, spec, spec.d_model, spec.d_model)
        heads, size = options.n_heads, self.sizes[0]
        self.conv = ShortConv(spec.d_model, options.d_conv, bias=True)
        self.inputs = nn.Parameter(torch.empty(GATES, heads, size, size))  # the last two: from, to
        self.recurrent = nn.Parameter(torch.zeros(GATES, heads, size, size))
        self.bias = nn.Parameter(torch.zeros(GATES * spec.d_model))
        self.norm = nn.Parameter(torch.ones(spec.d_model))
        with torch.no_grad():  # as the authors' code: forget gates from open to closed, deeper layers more open
            self.inputs.normal_(0, (2 / (5 * spec.d_model)) ** 0.5)
            depth = spec.layer / max(spec.n_layers - 1, 1)
            forgets = 5 - 12 * (torch.arange(size) / max(size - 1, 1)) ** (0.3 + 1.3 * depth)
            self.bias.view(GATES, heads, size)[1] = forgets

    def run(self, x: Tensor, state: State, keep: slice) -> tuple[Tensor, State]:
        taps, memory = state or (None, self._fresh(len(x), x.device, self.bias.dtype))
        c, taps = self.conv(x, taps)
        h, memory = self._recur(self._gates(c, x), memory)
        h = F.layer_norm(h[keep], h.shape[-1:], eps=NORM_EPS)
        return h.permute(2, 0, 1, 3).flatten(-2) * self.norm, (taps, memory)

    def _gates(self, c: Tensor, x: Tensor) -> Tensor:
        """What the gates see of the tokens, (length, gates · heads, batch, size): of c the first two, of x the others.

        It is computed for all tokens before the loop.
        """
        parts = zip((c, x), self.inputs.chunk(2), strict=True)
        products = [torch.einsum("blhi,ghio->lghbo", self.heads(part), weight) for part, weight in parts]
        return torch.cat(products, 1).flatten(1, 2) + self.bias.view(-1, 1, self.sizes[0])

    def _recur(self, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Every h_t, (length, heads, batch, size), and the memory after the last token."""
        c, n, m, h = self.heads(memory.to(gates.dtype)).permute(1, 2, 0, 3)
        weight, states = self.recurrent.flatten(0, 1), []
        with torch.autocast(gates.device.type, enabled=False):  # states multiply rounding errors
            for given in gates.unbind(0):
                a, b, z, o = torch.baddbmm(given, h.repeat(GATES, 1, 1), weight).chunk(GATES)
                log_f = F.logsigmoid(b) + m
                m = torch.maximum(log_f, a).detach()  # h does not depend on m, so gradients need not pass it
                f, i = torch.exp(log_f - m), torch.exp(a - m)
                c, n = f * c + i * torch.tanh(z), f * n + i
                h = torch.sigmoid(o) * c / n
                states.append(h)
        after = torch.stack((c, n, m, h)).permute(2, 0, 1, 3).flatten(-2)
        return torch.stack(states), after.to(memory.dtype)

    def _fresh(self, batch: int, device: Any, dtype: torch.dtype) -> Tensor:
        """c = n = h = 0, and m so low that the first token replaces it."""
        memory = torch.zeros(batch, MEMORY, self.spec.d_model, device=device, dtype=dtype)
        memory[:, 2] = torch.finfo(dtype).min / 2
        return memory

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The convolution's last inputs, (batch, taps - 1, d_model), and c, n, m, h, (batch, 4, d_model)."""
        taps = self.zeros(batch, device, dtype)(self.options.d_conv - 1, self.spec.d_model)
        return taps, self._fresh(batch, taps.device, taps.dtype)

    def flops(self, length: int) -> float:
        """Those of the convolution and of the products with tokens and states."""
        return 2.0 * (self.conv.conv.weight.numel() + self.inputs.numel() + self.recurrent.numel())
