"""The control that sees only the present: tokens mix within their own environment step.

The window is one environment step: the requested return and the state, and at the action's token also the action. An
ordinary policy network sees the same, so this control shows what memory is worth.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import Mixer, NoOptions, Spec, State


class StepMLP(Mixer):
    """y_t = W [x_t, x_{t-1}, ...] + b over the tokens of the current step up to t, zeros for those of earlier steps.

    A step has ``spec.tokens_per_step`` tokens, and a context starts with the first token of a step.
    """

    summary: ClassVar[str] = "Control that sees only the present: a linear layer over the current step's tokens"

    def __init__(self, options: NoOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.tokens = spec.tokens_per_step
        self.out_proj = nn.Linear(self.tokens * spec.d_model, spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, d = x.shape
        steps = -(-length // self.tokens)
        x = F.pad(x, (0, 0, 0, steps * self.tokens - length)).view(batch * steps, self.tokens, d)
        # Index k of the second-last axis is the token k positions earlier, or zero if that is before the step.
        back = F.pad(x, (0, 0, self.tokens - 1, 0)).unfold(1, self.tokens, 1).transpose(2, 3).flip(2)
        y = self.out_proj(back.flatten(2)).view(batch, steps * self.tokens, d)
        return y[:, :length]  # type: ignore[no-any-return]

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The tokens of the step so far, the latest first, (batch, tokens_per_step - 1, d_model), and their number."""
        like = self.out_proj.weight
        device, dtype = device or like.device, dtype or like.dtype
        shape = (batch, self.tokens - 1, self.spec.d_model)
        return torch.zeros(shape, device=device, dtype=dtype), torch.zeros(batch, dtype=torch.long, device=device)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        earlier, count = state
        seen = torch.cat((x_t.unsqueeze(1), earlier), dim=1)
        count = (count + 1) % self.tokens
        ended = (count == 0)[:, None, None]
        return self.out_proj(seen.flatten(1)), (seen[:, :-1].masked_fill(ended, 0), count)

    def flops(self, length: int) -> float:
        return 2.0 * self.out_proj.weight.numel()

    def residual_outputs(self) -> Iterable[nn.Linear]:
        return (self.out_proj,)
