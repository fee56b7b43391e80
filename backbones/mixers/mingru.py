"""minGRU (Feng et al., arXiv:2410.01201): a GRU whose gates do not depend on the state, so it needs no loop in time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from backbench.backbones.contract import Spec
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE
from backbench.backbones.kernels.diagonal.naive import of_recurrence
from backbench.backbones.mixers.diagonal import DiagonalMixer
from backbench.errors import require, suggest

CANDIDATES = ("positive", "linear")


@dataclass(frozen=True)
class MinGRUOptions:
    """Options of minGRU."""

    expand: int = 1  # channels of the recurrence, as a multiple of d_model
    candidate: str = "positive"  # what a token writes: `positive`, g of a projection; or `linear`, the projection
    mlp: bool = True  # whether a feed-forward network follows each mixer; false for bare recurrences
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of the recurrence; auto chooses the fastest

    def __post_init__(self) -> None:
        require(self.expand >= 1, f"mingru: expand={self.expand}; give at least 1")
        hint = suggest(self.candidate, CANDIDATES)
        require(self.candidate in CANDIDATES, f"mingru: unknown candidate '{self.candidate}'{hint}")
        DIAGONAL_RECURRENCE.require(self.kernels)


class MinGRU(DiagonalMixer):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t with z_t = sigmoid(W_z x_t) and c_t = g(W_h x_t), then a projection out.

    g(v) is v + 1/2 for v >= 0 and sigmoid(v) below (appendix B). The paper keeps its scan stable with
    logarithms. Ours never divides by a product of decays, so the recurrence is computed directly.
    """

    Options: ClassVar[type] = MinGRUOptions
    summary: ClassVar[str] = "minGRU: gates that depend on the token alone, and a recurrent step"
    paper: ClassVar[str] = "arXiv:2410.01201 (Were RNNs All We Needed?)"

    def __init__(self, options: MinGRUOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.ffn_activation = options.activation if options.mlp else None
        self.channels = options.expand * spec.d_model
        self.in_proj = nn.Linear(spec.d_model, 2 * self.channels)  # candidate and gate; PyTorch's start, as the paper
        self.out_proj = nn.Linear(self.channels, spec.d_model)

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        candidate, gate = self.in_proj(x).to(self.in_proj.weight.dtype).chunk(2, dim=-1)
        if self.options.candidate == "positive":
            candidate = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
        return torch.sigmoid(-gate), torch.sigmoid(gate) * candidate

    def leave(self, h: Tensor, x: Tensor) -> Tensor:
        return self.out_proj(h)  # type: ignore[no-any-return]

    def flops(self, length: int) -> float:
        """Those of both projections and the recurrence."""
        products = 2.0 * (self.in_proj.weight.numel() + self.out_proj.weight.numel())
        return products + of_recurrence(self.channels)
