"""The mixer of the Decision Transformer (Chen et al., arXiv:2106.01345): GPT-2's causal self-attention.

It has no positional embedding: the agent's tokenizer adds an embedding of the environment's timestep.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State
from backbench.backbones.flops import of_attention
from backbench.backbones.kernels.attention.attention import ATTENTION, attention
from backbench.errors import require

EMPTY = -(2**40)  # token number of an empty slot: too old to be attended to


@dataclass(frozen=True)
class TransformerOptions:
    """Options of the attention mixer. The defaults are the Decision Transformer's on Gym."""

    n_heads: int = 1  # number of attention heads; d_model must be a multiple
    activation: str = "relu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of attention; auto chooses the fastest

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, f"transformer: n_heads={self.n_heads}; give at least 1")
        ATTENTION.require(self.kernels)


class Transformer(Mixer):
    """Causal self-attention with biases on every projection and dropout on the attention weights."""

    Options: ClassVar[type] = TransformerOptions
    summary: ClassVar[str] = "Causal self-attention, as in GPT-2"
    paper: ClassVar[str] = "arXiv:2106.01345 (Decision Transformer)"

    def __init__(self, options: TransformerOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        d, heads = spec.d_model, options.n_heads
        require(d % heads == 0, f"transformer: d_model={d} is not a multiple of n_heads={heads}; change one of them")
        self.ffn_activation = options.activation
        self.n_heads = heads
        self.kernels = options.kernels
        self.qkv_proj = nn.Linear(d, 3 * d)
        self.out_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.project(x))

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """Keys and values of all positions, queries at the positions ``keep``."""
        if keep == ALL or not ATTENTION.chosen(self.kernels, x.device.type, x.dtype).fused:
            return self(x)[:, keep]  # type: ignore[no-any-return]
        d = x.shape[-1]
        weight, bias = self.qkv_proj.weight, self.qkv_proj.bias
        q = self._heads(F.linear(x[:, keep], weight[:d], bias[:d]))
        k, v = (self._heads(part) for part in F.linear(x, weight[d:], bias[d:]).chunk(2, -1))
        return self._attend(q, k, v, keep)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (batch, length, 3 * d_model)."""
        return self.qkv_proj(x)  # type: ignore[no-any-return]

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        q, k, v = (self._heads(part) for part in projected.chunk(3, -1))
        if keep != ALL and ATTENTION.chosen(self.kernels, q.device.type, q.dtype).fused:
            return self._attend(q[:, :, keep], k, v, keep)
        return self._attend(q, k, v, ALL)[:, keep]

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """A cache of keys and values, (batch, slots, 2, heads, d), each slot's token number, and the token count.

        The cache has slots for tokens_per_step - 1 tokens more than the window, as a step's tokens may arrive together.
        The order of slots does not matter to attention, so a new token replaces the oldest one.
        """
        like = self.qkv_proj.weight
        slots = self.spec.max_length + self.spec.tokens_per_step - 1
        shape = (batch, slots, 2, self.n_heads, self.spec.d_model // self.n_heads)
        cache = torch.zeros(shape, device=device or like.device, dtype=dtype or like.dtype)
        numbers = torch.full((batch, slots), EMPTY, dtype=torch.long, device=cache.device)
        return cache, numbers, torch.zeros(batch, dtype=torch.long, device=cache.device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Tokens attend to themselves and to the tokens before, as far back as :meth:`Spec.first_kept`."""
        batch, count, d = x.shape
        if count > self.spec.tokens_per_step:
            return super().extend(x, state, keep)
        cache, numbers, seen = state
        q, kv = self.qkv_proj(x).split([d, 2 * d], -1)
        now = seen.unsqueeze(1) + torch.arange(count, device=x.device)  # (batch, count)
        rows = torch.arange(batch, device=x.device).unsqueeze(1)
        cache[rows, now % cache.shape[1]] = kv.view(batch, count, *cache.shape[2:])
        numbers[rows, now % cache.shape[1]] = now
        seen_by, others = now[:, keep].unsqueeze(2), numbers.unsqueeze(1)  # (batch, kept, 1), (batch, 1, slots)
        mask = ((others <= seen_by) & (others >= self.spec.first_kept(seen_by))).unsqueeze(1)
        k, v = cache.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self._heads(q[:, keep]), k, v, mask)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        return y, (cache, numbers, seen + count)

    def projections(self) -> Iterable[nn.Linear]:
        return (self.qkv_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def flops(self, length: int) -> float:
        """The projections, and scores and values over the (length + 1) / 2 tokens that a token sees on average."""
        weights = self.qkv_proj.weight.numel() + self.out_proj.weight.numel()
        return 2 * weights + of_attention(self.spec.d_model, length)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, heads, length, d)."""
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, keep: slice) -> Tensor:
        dropout = self.spec.dropout if self.training else 0.0
        y = attention(q, k, v, keep=keep, dropout=dropout, implementation=self.kernels)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
