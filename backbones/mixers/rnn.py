"""Recurrent networks, the baselines of memory benchmarks: GRU (Cho et al., arXiv:1406.1078) and LSTM (Hochreiter and
Schmidhuber 1997), by torch's own layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.backbones.contract import ALL, Mixer, Spec, State
from backbench.errors import require


@dataclass(frozen=True)
class RNNOptions:
    """Options of GRU and LSTM."""

    hidden: int = 0  # width of the state; 0 for d_model

    def __post_init__(self) -> None:
        require(self.hidden >= 0, f"gru and lstm: hidden={self.hidden}; give 0, for d_model, or more")


class RNN(Mixer):
    """y = W h, with h of one recurrent layer. The state is what torch's layer carries, batch first."""

    Options: ClassVar[type] = RNNOptions
    layer: ClassVar[Any]  # nn.GRU or nn.LSTM

    def __init__(self, options: RNNOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.hidden = options.hidden or spec.d_model
        self.rnn: Any = self.layer(spec.d_model, self.hidden, batch_first=True)
        self.out_proj = nn.Linear(self.hidden, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_at(x, ALL)

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        return self.out_proj(self.rnn(x)[0][:, keep])  # type: ignore[no-any-return]

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def _zeros(self, batch: int, device: Any, dtype: torch.dtype | None) -> Tensor:
        like = self.out_proj.weight
        return torch.zeros(batch, self.hidden, device=device or like.device, dtype=dtype or like.dtype)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)


class GRU(RNN):
    """h_t = z_t h_{t-1} + (1 - z_t) n_t, with gates of the input and of h_{t-1}. Weights start as torch's."""

    summary: ClassVar[str] = "GRU: a gated recurrence that is not linear in its state"
    paper: ClassVar[str] = "arXiv:1406.1078 (GRU)"
    layer: ClassVar[Any] = nn.GRU

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """h, (batch, hidden)."""
        return self._zeros(batch, device, dtype)

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        y, h = self.rnn(x, state.unsqueeze(0))
        return self.out_proj(y[:, keep]), h[0]


class LSTM(RNN):
    """c_t = f_t c_{t-1} + i_t g_t, h_t = o_t tanh(c_t). Weights start as torch's, forget gates with bias 1.

    That bias is advised by Gers et al. 2000 and Jozefowicz et al. 2015: a fresh network then remembers.
    """

    summary: ClassVar[str] = "LSTM: a gated recurrence with a cell of its own"
    paper: ClassVar[str] = "doi:10.1162/neco.1997.9.8.1735; forget gate: doi:10.1162/089976600300015015"
    layer: ClassVar[Any] = nn.LSTM

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """h and c, (batch, hidden) each."""
        return self._zeros(batch, device, dtype), self._zeros(batch, device, dtype)

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        y, (h, c) = self.rnn(x, tuple(part.unsqueeze(0) for part in state))
        return self.out_proj(y[:, keep]), (h[0], c[0])

    def initialise(self, residual_scale: float) -> None:
        super().initialise(residual_scale)
        forget = slice(self.hidden, 2 * self.hidden)  # torch's order is input, forget, cell, output; two biases add up
        with torch.no_grad():
            self.rnn.bias_ih_l0[forget] = 1.0
            self.rnn.bias_hh_l0[forget] = 0.0
