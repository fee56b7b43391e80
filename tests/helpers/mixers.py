"""Mixers that another package might bring, each wrapped in a few lines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Mixer, Spec


class GRU(Mixer):
    layer: type[nn.RNNBase] = nn.GRU

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.rnn = self.layer(spec.d_model, spec.d_model, batch_first=True)  # type: ignore[misc,call-arg,arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]


class LSTM(GRU):
    layer = nn.LSTM


class Convolution(Mixer):
    TAPS = 4

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.conv = nn.Conv1d(spec.d_model, spec.d_model, self.TAPS, padding=self.TAPS - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)  # type: ignore[no-any-return]


class TorchAttention(Mixer):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.attention = nn.MultiheadAttention(spec.d_model, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=later, need_weights=False)[0]  # type: ignore[no-any-return]


class FusedAttention(Mixer):
    """Linear layers around PyTorch's function: no layer explains the scores."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.qkv, self.out = nn.Linear(spec.d_model, 3 * spec.d_model), nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, -1))
        return self.out(self.attend(q, k, v).squeeze(1))  # type: ignore[no-any-return]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class HandAttention(FusedAttention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
        return (q @ k.transpose(2, 3)).masked_fill(later, -torch.inf).softmax(-1) @ v


class BareMatrix(Mixer):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.matrix = nn.Parameter(torch.randn(spec.d_model, spec.d_model))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


class Twice(Mixer):
    """One layer that each token meets twice."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.linear = nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.linear(x))  # type: ignore[no-any-return]


class CumulativeMean(Mixer):
    """No weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(-1, 1)


class Fourier(Mixer):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.linear = nn.Linear(spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        size = 2 * x.shape[1]
        return torch.fft.irfft(torch.fft.rfft(self.linear(x), n=size, dim=1), n=size, dim=1)[:, : x.shape[1]]


class Typed(Mixer):
    """Convolutions for each kind of token, as in Decision ConvFormer (arXiv:2310.03022, section 3)."""

    TAPS = 6

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.taps = nn.Parameter(torch.randn(len(spec.tokens), self.TAPS, spec.d_model))

    def forward(self, x: Tensor) -> Tensor:
        length, kinds = x.shape[1], len(self.taps)
        padded = F.pad(x, (0, 0, self.TAPS - 1, 0)).unfold(1, self.TAPS, 1).transpose(2, 3)  # (batch, length, taps, d)
        taps = self.taps.repeat(-(-length // kinds), 1, 1)[:length]
        return (padded * taps).sum(2)


class MambapyBlock(Mixer):
    """mambapy's block with its own initialisation: time steps from 0.001 to 0.1."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        from mambapy.mamba import MambaBlock, MambaConfig

        self.block = MambaBlock(MambaConfig(d_model=spec.d_model, n_layers=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]
