"""The mixer of the Decision Transformer (Chen et al., arXiv:2106.01345): GPT-2's causal self-attention.

There is no positional embedding here: the agent's tokenizer adds an embedding of the environment's timestep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from backbench.backbones.contract import Mixer, Spec
from backbench.backbones.kernels.attention import ATTENTION, attention
from backbench.backbones.options import require


@dataclass(frozen=True)
class TransformerOptions:
    """Options of the attention mixer; the defaults are the Decision Transformer's on Gym."""

    # Number of attention heads; d_model must be a multiple.
    n_heads: int = 1
    # Activation of the feed-forward network: gelu, gelu_tanh or relu.
    activation: str = "relu"
    # Implementation of attention: auto takes the fastest there is.
    kernels: str = "auto"

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, f"transformer: n_heads={self.n_heads}; give at least 1")
        ATTENTION.require(self.kernels)


class Transformer(Mixer):
    """Causal self-attention with biases on every projection and dropout on the attention weights."""

    Options: ClassVar[type] = TransformerOptions

    def __init__(self, options: TransformerOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        d, heads = spec.d_model, options.n_heads
        require(d % heads == 0, f"transformer: d_model={d} is not a multiple of n_heads={heads}; change one of them")
        self.n_heads = heads
        self.kernels = options.kernels
        self.qkv_proj = nn.Linear(d, 3 * d)
        self.out_proj = nn.Linear(d, d)

    @property
    def ffn_activation(self) -> str | None:
        activation: str = self.options.activation
        return activation

    def forward(self, x: Tensor) -> Tensor:
        batch, length, d = x.shape
        heads = self.qkv_proj(x).view(batch, length, 3, self.n_heads, d // self.n_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        dropout = self.spec.dropout if self.training else 0.0
        y = attention(q, k, v, dropout=dropout, implementation=self.kernels)
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, d))  # type: ignore[no-any-return]

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def flops_per_token(self, length: int) -> float:
        """The projections, and scores and values over the (length + 1) / 2 tokens that causality leaves on average."""
        return super().flops_per_token(length) + 4 * self.spec.d_model * (length + 1) / 2
