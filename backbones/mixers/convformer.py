"""Decision ConvFormer (Kim et al., arXiv:2310.03022): a causal depthwise convolution, a filter for each token kind."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, no_weight_decay
from backbench.backbones.flops import priced
from backbench.errors import require


@dataclass(frozen=True)
class ConvformerOptions:
    """Options of the convolution."""

    window: int = 2  # environment steps that a filter spans; the paper's six tokens are two steps
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu

    def __post_init__(self) -> None:
        require(self.window >= 1, f"convformer: window={self.window}; give at least 1")


class Convformer(Mixer):
    """y_t = b_m + sum_l w_m[l] * x_{t-l} for each channel, with the filter m of the kind of token t.

    A step's kinds come in a fixed order, and a context starts with the first token of a step.
    """

    Options: ClassVar[type] = ConvformerOptions
    summary: ClassVar[str] = "Causal depthwise convolution over the last steps, one filter a token kind"
    paper: ClassVar[str] = "arXiv:2310.03022 (Decision ConvFormer)"
    uses_all_weights: ClassVar[bool] = False  # a token meets the filter of its kind alone

    def __init__(self, options: ConvformerOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.ffn_activation = options.activation
        self.kinds = spec.tokens_per_step
        self.taps = options.window * self.kinds
        convolutions = [
            nn.Conv1d(spec.d_model, spec.d_model, self.taps, groups=spec.d_model) for _ in range(self.kinds)
        ]
        # As in the authors' code, filters start as torch's.
        self.weight = nn.Parameter(torch.stack([one.weight.detach().squeeze(1).t() for one in convolutions]))
        biases = torch.stack([one.bias.detach() for one in convolutions])  # type: ignore[union-attr]
        self.bias = no_weight_decay(nn.Parameter(biases))

    def forward(self, x: Tensor) -> Tensor:
        return filtered(x, self.weight, self.bias)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The last tokens, (batch, taps - 1, d_model), and how many of the current step were seen, (batch,)."""
        shape = (batch, self.taps - 1, self.spec.d_model)
        tokens = torch.zeros(shape, device=device or self.weight.device, dtype=dtype or self.weight.dtype)
        return tokens, torch.zeros(batch, dtype=torch.long, device=tokens.device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        tokens, kind = state
        seen = torch.cat((tokens, x_t.unsqueeze(1)), 1)
        y = (seen * self.weight[kind]).sum(1) + self.bias[kind]
        return y, (seen[:, 1:], (kind + 1) % self.kinds)

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """Tokens before the window of the first kept one change nothing, so acting computes the last window alone."""
        first, _, _ = keep.indices(x.shape[1])
        begin = max(0, first - self.taps + 1) // self.kinds * self.kinds
        if keep == ALL or begin == 0:
            return self(x)[:, keep]  # type: ignore[no-any-return]
        positions = range(*keep.indices(x.shape[1]))
        y = self(x[:, begin:])
        return y[:, positions[0] - begin : positions[-1] - begin + 1 : positions.step]  # type: ignore[no-any-return]

    def flops(self, length: int) -> float:
        return 2.0 * self.taps * self.spec.d_model


@priced(lambda x, weight, _: 2.0 * x.shape[0] * x.shape[1] * weight[0].numel())
def filtered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(batch, length, d), (kinds, taps, d), (kinds, d) -> (batch, length, d): shifted adds. Tap 0 is the oldest."""
    kinds, taps, _ = weight.shape
    padded = F.pad(x, (0, 0, taps - 1, -x.shape[1] % kinds))  # whole steps, zeros before the first token
    last = padded.shape[1] - taps + 1
    rows = []
    for kind in range(kinds):
        y = bias[kind].expand(x.shape[0], last // kinds, -1)
        for tap in range(taps):
            y = torch.addcmul(y, padded[:, kind + tap : last + tap : kinds], weight[kind, tap])
        rows.append(y)
    return torch.stack(rows, dim=2).flatten(1, 2)[:, : x.shape[1]]
