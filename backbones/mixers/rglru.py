"""Griffin's recurrent block with the RG-LRU (De et al., arXiv:2402.19427, section 2.3 and 2.4)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, no_weight_decay
from backbench.backbones.kernels.conv.causal_conv1d import causal_conv1d
from backbench.backbones.kernels.conv.naive import of_conv
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE, diagonal_recurrence
from backbench.backbones.kernels.diagonal.naive import of_recurrence
from backbench.errors import require

SHARPNESS = 8.0  # the paper's c: a_t = a^(c r_t)
SLOWEST, FASTEST = 0.999, 0.9  # a^c starts between them
LEAST = 1e-12  # of 1 - a_t^2, so that its root has a finite derivative


@dataclass(frozen=True)
class RGLRUOptions:
    """Options of Griffin's recurrent block."""

    width: int = 0  # channels of the recurrence; 0 means d_model
    d_conv: int = 4  # taps of the causal convolution before the recurrence
    n_blocks: int = 1  # blocks on the diagonal of the gates' matrices; the width must be a multiple
    mlp: bool = True  # whether a feed-forward network follows each mixer, as in Griffin; false for bare blocks
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of the recurrence; auto chooses the fastest

    def __post_init__(self) -> None:
        for name, least in (("width", 0), ("d_conv", 1), ("n_blocks", 1)):
            value = getattr(self, name)
            require(value >= least, f"rglru: {name}={value}; give at least {least}")
        DIAGONAL_RECURRENCE.require(self.kernels)


class RGLRU(Mixer):
    """Two branches: convolution and RG-LRU, and a GELU that gates them. Its step is recurrent.

    r_t = sigmoid(W_r u_t), i_t = sigmoid(W_i u_t), a_t = exp(-c softplus(Lambda) r_t), and
    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t u_t) (equations 1 to 4), where u is the convolution's output.
    """

    Options: ClassVar[type] = RGLRUOptions
    summary: ClassVar[str] = "Griffin's recurrent block: convolution and gated diagonal recurrence (RG-LRU)"
    paper: ClassVar[str] = "arXiv:2402.19427 (Griffin)"

    def __init__(self, options: RGLRUOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        d, blocks = spec.d_model, options.n_blocks
        width = options.width or d
        require(width % blocks == 0, f"rglru: width={width} is not a multiple of n_blocks={blocks}; change one of them")
        self.ffn_activation = options.activation if options.mlp else None
        size = width // blocks
        self.x_proj = nn.Linear(d, width)
        self.gate_proj = nn.Linear(d, width)
        self.conv1d = nn.Conv1d(width, width, options.d_conv, groups=width)  # its weights; the kernel applies them
        self.gates = nn.Parameter(torch.empty(blocks, size, 2 * size))  # of the input, and of the recurrence
        self.gates_bias = no_weight_decay(nn.Parameter(torch.zeros(blocks, 2 * size)))
        self.decay = no_weight_decay(nn.Parameter(torch.empty(width)))  # the paper's Lambda
        self.out_proj = nn.Linear(width, d)
        self._start()

    def _start(self) -> None:
        """LeCun's normal weights, zero biases, and a^c uniform between 0.9 and 0.999, as the paper says."""
        with torch.no_grad():
            for layer in (self.x_proj, self.gate_proj):
                layer.weight.normal_(std=self.spec.d_model**-0.5)
                layer.bias.zero_()
            self.conv1d.weight.normal_(std=self.options.d_conv**-0.5)
            assert self.conv1d.bias is not None  # for the type checker
            self.conv1d.bias.zero_()
            self.gates.normal_(std=self.gates.shape[1] ** -0.5)
            rate = -torch.empty_like(self.decay).uniform_(FASTEST, SLOWEST).log() / SHARPNESS
            self.decay.copy_(rate.expm1().log())  # the inverse of softplus

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_at(x, ALL)

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """All positions pass the recurrence. The gate and what follows are computed at ``keep``."""
        return self._leave(self._recur(self._convolve(self.x_proj(x))), self._gate(x[:, keep]), keep)

    def project(self, x: Tensor) -> State:
        """The inputs of convolution and product, (batch, length, width) each."""
        return self.x_proj(x), self._gate(x)

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        u, gate = projected
        return self._leave(self._recur(self._convolve(u)), gate[:, keep], keep)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """Zeros: the convolution's last inputs, (batch, d_conv - 1, width), and the last h, (batch, width)."""
        like, width = self.decay, len(self.decay)
        device, dtype = device or like.device, dtype or like.dtype
        taps = torch.zeros(batch, self.options.d_conv - 1, width, device=device, dtype=dtype)
        return taps, torch.zeros(batch, width, device=device, dtype=dtype)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Further tokens, (batch, count, d_model), after ``state``: O(1) work per token."""
        taps, h = state
        before = taps.shape[1]
        seen = torch.cat((taps, self.x_proj(x)), 1)
        states = self._recur(self._convolve(seen)[:, before:], h)
        y = self._leave(states, self._gate(x[:, keep]), keep)
        return y, (seen[:, seen.shape[1] - before :], states[:, -1].to(h.dtype))

    def flops(self, length: int) -> float:
        """Those of the projections, the gates, the convolution and the recurrence."""
        matrices = (self.x_proj.weight, self.gate_proj.weight, self.out_proj.weight, self.gates)
        products = sum(2 * matrix.numel() for matrix in matrices)
        return products + of_conv(self.conv1d.weight) + of_recurrence(len(self.decay))

    def _convolve(self, u: Tensor) -> Tensor:
        assert self.conv1d.bias is not None  # for the type checker
        return causal_conv1d(u, self.conv1d.weight.squeeze(1), self.conv1d.bias)

    def _gate(self, x: Tensor) -> Tensor:
        return F.gelu(self.gate_proj(x), approximate="tanh")

    def fastest(self) -> Tensor:
        """a^c, (width,): the decay of an open recurrence gate, the smallest that there is."""
        return self._log_decays(torch.ones_like(self.decay)).exp()

    def log_decays(self, x: Tensor) -> Tensor:
        """log a_t, (batch, length, d_model) -> (batch, length, width)."""
        return self._log_decays(self._choose(self._convolve(self.x_proj(x)))[1])

    def _log_decays(self, r: Tensor) -> Tensor:
        """log a_t for the recurrence gate r, (…, width)."""
        return -SHARPNESS * F.softplus(self.decay) * r

    def _choose(self, u: Tensor) -> tuple[Tensor, ...]:
        """The gates of the input and of the recurrence, from the convolution's outputs, (batch, length, width) each."""
        blocks, size = self.gates.shape[:2]
        chosen = torch.einsum("blnw,nwv->blnv", u.reshape(*u.shape[:2], blocks, size), self.gates) + self.gates_bias
        return tuple(part.flatten(-2).to(self.decay.dtype) for part in chosen.sigmoid().chunk(2, dim=-1))

    def _recur(self, u: Tensor, initial: Tensor | None = None) -> Tensor:
        """Every h, from the convolution's outputs u, both (batch, length, width)."""
        i, r = self._choose(u)
        log_a = self._log_decays(r)
        scale = (-torch.expm1(2 * log_a)).clamp(min=LEAST).sqrt()
        return diagonal_recurrence(log_a.exp(), scale * (i * u), initial, self.options.kernels)

    def _leave(self, h: Tensor, gate: Tensor, keep: slice) -> Tensor:
        return self.out_proj(h[:, keep] * gate)  # type: ignore[no-any-return]
