"""Causal self-attention: as in the Decision Transformer (Chen et al., arXiv:2106.01345), which is GPT-2's, and with the
parts that Llama added (Touvron et al., arXiv:2302.13971): rotary positions, RMSNorm, SwiGLU, no biases, and the grouped
heads of its later versions (Ainslie et al., arXiv:2305.13245).

Without rotary positions there are none: the agent's tokenizer adds an embedding of the environment's timestep.
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
ROTARY_BASE = 10_000.0
POSITIONS, NORMS = ("none", "rotary"), ("layer", "rms")


@dataclass(frozen=True)
class TransformerOptions:
    """Options of the attention mixer. The defaults are the Decision Transformer's on Gym."""

    n_heads: int = 1  # attention heads; d_model must be a multiple (published: Gym 1, Atari 8)
    kv_heads: int = 0  # heads of keys and values, each for a group of heads; 0 for as many as `n_heads`
    positions: str = "none"  # `none`, or `rotary`: queries and keys turn with their token's number; heads of even size
    window: int = 0  # environment steps that a token sees, the current one included; 0 for all before it
    norm: str = "layer"  # `layer`, or `rms`: RMSNorm before attention, before the feed-forward network and at the end
    bias: bool = True  # whether the projections have biases
    # Of the feed-forward network: `gelu`, `gelu_tanh`, `relu`, or `swiglu`, which is 8/3 d_model wide, without biases
    # (published: Gym relu, Atari gelu).
    activation: str = "relu"
    kernels: str = "auto"  # implementation of attention; auto chooses the fastest
    name: ClassVar[str] = "transformer"  # of the backbone, for errors

    def __post_init__(self) -> None:
        require(self.n_heads >= 1, f"{self.name}: n_heads={self.n_heads}; give at least 1")
        groups = 0 <= self.kv_heads <= self.n_heads and self.n_heads % (self.kv_heads or 1) == 0
        require(groups, f"{self.name}: kv_heads={self.kv_heads}; give 0 or a divisor of n_heads={self.n_heads}")
        require(self.window >= 0, f"{self.name}: window={self.window}; give 0, for no limit, or more")
        for name, known in (("positions", POSITIONS), ("norm", NORMS)):
            value = getattr(self, name)
            require(value in known, f"{self.name}: {name}={value}; give one of {', '.join(known)}")
        ATTENTION.require(self.kernels)
        masked = self.kernels == "auto" or ATTENTION.table[self.kernels].fused
        require(masked or not self.window, f"{self.name}: kernels={self.kernels} has no window; give window=0 or auto")


@dataclass(frozen=True)
class TransformerPPOptions(TransformerOptions):
    """Options of Transformer++. The defaults are Llama's parts at the sizes of this project."""

    n_heads: int = 4
    kv_heads: int = 2
    positions: str = "rotary"
    norm: str = "rms"
    bias: bool = False
    activation: str = "swiglu"
    name: ClassVar[str] = "transformerpp"


class Transformer(Mixer):
    """Causal self-attention with dropout on the attention weights."""

    Options: ClassVar[type] = TransformerOptions
    summary: ClassVar[str] = "Causal self-attention, as in GPT-2"
    paper: ClassVar[str] = "arXiv:2106.01345 (Decision Transformer)"

    def __init__(self, options: TransformerOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        d, heads = spec.d_model, options.n_heads
        require(d % heads == 0, f"{options.name}: d_model={d} is not a multiple of n_heads={heads}; change one of them")
        self.head = d // heads
        rotary = options.positions == "rotary"
        odd = f"rotary positions turn pairs, and a head has {self.head} numbers; change n_heads or d_model"
        require(not rotary or self.head % 2 == 0, f"{options.name}: {odd}")
        self.ffn_activation, self.norm_kind = options.activation, options.norm
        self.n_heads, self.kv_heads = heads, options.kv_heads or heads
        self.window = options.window * spec.tokens_per_step
        self.kernels = options.kernels
        self.rotary = rotary
        self.sizes = [d, self.kv_heads * self.head, self.kv_heads * self.head]  # of queries, keys and values
        self.qkv_proj = nn.Linear(d, sum(self.sizes), bias=options.bias)
        self.out_proj = nn.Linear(d, d, bias=options.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.project(x))

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """Keys and values of all positions, queries at the positions ``keep``."""
        if keep == ALL or not ATTENTION.chosen(self.kernels, x.device.type, x.dtype).fused:
            return self(x)[:, keep]  # type: ignore[no-any-return]
        d, weight, bias = x.shape[-1], self.qkv_proj.weight, self.qkv_proj.bias
        of_q, of_kv = (None, None) if bias is None else (bias[:d], bias[d:])
        q = F.linear(x[:, keep], weight[:d], of_q)
        k, v = F.linear(x, weight[d:], of_kv).chunk(2, -1)
        return self._attend(q, k, v, keep)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (batch, length, 3 * d_model), or less with grouped heads."""
        return self.qkv_proj(x)  # type: ignore[no-any-return]

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        q, k, v = projected.split(self.sizes, -1)
        if keep != ALL and ATTENTION.chosen(self.kernels, q.device.type, q.dtype).fused:
            return self._attend(q[:, keep], k, v, keep)
        return self._attend(q, k, v, ALL)[:, keep]

    def attended(self, x: Tensor, values: Tensor) -> Tensor:
        """``values`` (length, n) of the tokens, averaged with each head's weights: (batch, heads, length, n)."""
        q, k, _ = (self._heads(part) for part in torch.split(self.project(x), self.sizes, -1))
        q, k = self._turned(q, self._repeated(k), ALL)
        v = values.to(q.dtype).expand(*q.shape[:2], -1, -1)
        return attention(q, k, v, window=self.window, implementation="reference")

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """A cache of keys and values, (batch, slots, 2, heads, d), each slot's token number, and the token count.

        The cache has slots for tokens_per_step - 1 tokens more than the window, as a step's tokens may arrive together.
        The order of slots does not matter to attention, so a new token replaces the oldest one.
        """
        like = self.qkv_proj.weight
        kept = min(self.window or self.spec.max_length, self.spec.max_length)
        slots = kept + self.spec.tokens_per_step - 1
        shape = (batch, slots, 2, self.kv_heads, self.head)
        cache = torch.zeros(shape, device=device or like.device, dtype=dtype or like.dtype)
        numbers = torch.full((batch, slots), EMPTY, dtype=torch.long, device=cache.device)
        return cache, numbers, torch.zeros(batch, dtype=torch.long, device=cache.device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Tokens attend to themselves and to the tokens before, as far back as the window, or :meth:`Spec.first_kept`.

        Keys are kept as they were turned by their own number, so only the distance to a query counts.
        """
        count = x.shape[1]
        if count > self.spec.tokens_per_step:
            return super().extend(x, state, keep)
        cache, numbers, seen = state
        q, k, v = (self._heads(part) for part in self.qkv_proj(x).split(self.sizes, -1))
        now = seen.unsqueeze(1) + torch.arange(count, device=x.device)  # (batch, count)
        if self.rotary:
            q, k = turned(q, now), turned(k, now)
        rows = torch.arange(len(x), device=x.device).unsqueeze(1)
        cache[rows, now % cache.shape[1]] = torch.stack((k, v), 1).permute(0, 3, 1, 2, 4).to(cache.dtype)
        numbers[rows, now % cache.shape[1]] = now
        seen_by, others = now[:, keep].unsqueeze(2), numbers.unsqueeze(1)  # (batch, kept, 1), (batch, 1, slots)
        first = self.spec.first_kept(seen_by)
        if self.window:
            first = torch.maximum(first, seen_by - self.window + 1)
        mask = ((others <= seen_by) & (others >= first)).unsqueeze(1)
        k, v = (self._repeated(part.to(q.dtype)) for part in cache.permute(2, 0, 3, 1, 4))
        y = F.scaled_dot_product_attention(q[:, :, keep], k, v, mask)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        return y, (cache, numbers, seen + count)

    def projections(self) -> Iterable[nn.Linear]:
        return (self.qkv_proj,)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def flops(self, length: int) -> float:
        """The projections, and scores and values over the tokens that a token sees, (length + 1) / 2 on average."""
        weights = self.qkv_proj.weight.numel() + self.out_proj.weight.numel()
        return 2 * weights + of_attention(self.spec.d_model, length, self.window)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, heads * d) -> (batch, heads, length, d)."""
        return x.view(*x.shape[:2], -1, self.head).transpose(1, 2)

    def _repeated(self, heads: Tensor) -> Tensor:
        """Keys or values for each query's head, (batch, n_heads, length, d)."""
        groups = self.n_heads // self.kv_heads
        return heads if groups == 1 else heads.repeat_interleave(groups, dim=1)

    def _turned(self, q: Tensor, k: Tensor, keep: slice) -> tuple[Tensor, Tensor]:
        """Queries and keys of heads, with positions if these are rotary."""
        if not self.rotary:
            return q, k
        numbers = torch.arange(k.shape[2], device=k.device)
        return turned(q, numbers[keep]), turned(k, numbers)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, keep: slice) -> Tensor:
        """q (batch, kept, d_model) at the positions ``keep``, k and v (batch, length, …) -> (batch, kept, d_model)."""
        q, k, v = (self._heads(part) for part in (q, k, v))
        q, k = self._turned(q, k, keep)
        dropout = self.spec.dropout if self.training else 0.0
        y = attention(
            q, self._repeated(k), self._repeated(v),
            keep=keep, window=self.window, dropout=dropout, implementation=self.kernels,
        )  # fmt: skip
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class TransformerPP(Transformer):
    """The Transformer with Llama's parts, as language models compare against it (Gu and Dao, arXiv:2312.00752)."""

    Options: ClassVar[type] = TransformerPPOptions
    summary: ClassVar[str] = "Transformer++: attention with rotary positions, RMSNorm, SwiGLU and grouped heads"
    paper: ClassVar[str] = "arXiv:2302.13971 (Llama), arXiv:2104.09864 (rotary positions)"


def turned(heads: Tensor, numbers: Tensor) -> Tensor:
    """Rotary positions (Su et al., arXiv:2104.09864) in the layout of Llama: number i of a head turns with i + d/2.

    ``heads`` (batch, heads, length, d), ``numbers`` of the tokens (length,) or (batch, length).
    """
    half = heads.shape[-1] // 2
    rates = ROTARY_BASE ** (-torch.arange(half, device=heads.device, dtype=torch.float64) / half)
    angles = numbers.unsqueeze(-1) * rates  # in float64: at token 10,000 a float32 angle is off by 1e-3
    if numbers.ndim == 2:
        angles = angles.unsqueeze(1)
    cos, sin = (part.to(heads.dtype) for part in (angles.cos(), angles.sin()))
    first, second = heads[..., :half], heads[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
