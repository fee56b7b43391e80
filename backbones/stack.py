"""The shared residual stack. It surrounds every mixer, so a difference in scores is due to the mixer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones import flops
from backbench.backbones.contract import ALL, Backbone, Mixer, Spec, State, initialise_gpt2
from backbench.backbones.dropout import Dropout
from backbench.errors import require, suggest

# "gelu_tanh" is the approximation that transformers calls "gelu_new". "gelu" is exact, in both.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
}
GATED = "swiglu"
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
NORM_EPS = 1e-5


class FeedForward(nn.Module):
    """d -> 4d -> activation -> d -> dropout, for each token alone."""

    def __init__(self, d_model: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 4 * d_model)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(4 * d_model, d_model)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.down(self.activation(self.up(x))))  # type: ignore[no-any-return]


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer, arXiv:2002.05202): d -> silu(gate) * up -> d -> dropout, without biases, for each token alone.

    It is 8/3 d wide, rounded up to a multiple of 8, so that it has as many weights as `FeedForward`.
    """

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        width = -(-8 * d_model // 24) * 8
        self.gate = nn.Linear(d_model, width, bias=False)
        self.up = nn.Linear(d_model, width, bias=False)
        self.down = nn.Linear(width, d_model, bias=False)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.down(F.silu(self.gate(x)) * self.up(x)))  # type: ignore[no-any-return]


def feed_forward(d_model: int, activation: str, dropout: float) -> nn.Module:
    """The feed-forward network with an activation. UserError if there is none of that name."""
    known = (*ACTIVATIONS, GATED)
    require(activation in known, f"unknown activation '{activation}'{suggest(activation, known)}")
    return GatedFeedForward(d_model, dropout) if activation == GATED else FeedForward(d_model, activation, dropout)


class Layer(nn.Module):
    """``x = x + dropout(mixer(norm1(x)))``, then ``x = x + ffn(norm2(x))`` if the mixer has an ``ffn_activation``."""

    def __init__(self, mixer: Mixer, spec: Spec) -> None:
        super().__init__()
        self.mixer = mixer
        norm, active = NORMS[mixer.norm_kind], mixer.ffn_activation
        self.norm1 = norm(spec.d_model, eps=NORM_EPS)
        self.drop = Dropout(spec.dropout)
        self.norm2 = None if active is None else norm(spec.d_model, eps=NORM_EPS)
        self.ffn = None if active is None else feed_forward(spec.d_model, active, spec.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.mixer(self.norm1(x)))

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """The positions ``keep`` of `forward`. Nothing after the mixer is computed for the others."""
        return self.add(x[:, keep], self.mixer.forward_at(self.norm1(x), keep))

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Both residual branches, given the output of the mixer."""
        x = x + self.drop(mixed)
        if self.ffn is None or self.norm2 is None:
            return x
        return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]


class ResidualStack(Backbone):
    """``spec.n_layers`` layers around the mixers that ``mixer`` makes, then a final norm.

    Feed-forward networks, and what a mixer hands over by `projections` and `residual_outputs`, start as GPT-2's:
    weights N(0, 0.02), biases zero. What writes to the residual stream is scaled by 1/sqrt(number of residual
    branches) if ``spec.residual_scale``. A mixer's other parameters keep the values that it gave them.
    """

    def __init__(self, mixer: Callable[[Spec], Mixer], options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.layers = nn.ModuleList(Layer(mixer(replace(spec, layer=i)), spec) for i in range(spec.n_layers))
        self.norm: Any = NORMS[self._layers()[-1].mixer.norm_kind](spec.d_model, eps=NORM_EPS)
        branches = sum(1 if layer.ffn is None else 2 for layer in self._layers())
        scale = branches**-0.5 if spec.residual_scale else 1.0
        for layer in self._layers():
            layer.mixer.initialise(scale)
            if layer.ffn is not None:
                initialise_gpt2(layer.ffn)
                with torch.no_grad():
                    layer.ffn.down.weight.mul_(scale)  # type: ignore[operator, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """The last layer computes the positions ``keep`` only."""
        *below, last = self._layers()
        for layer in below:
            x = layer(x)
        return self.norm(last.forward_at(x, keep))  # type: ignore[no-any-return]

    def project(self, x: Tensor) -> State:
        """The tokens, and what the first mixer projects from each."""
        first = self._layers()[0]
        return x, first.mixer.project(first.norm1(x))

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        """Only the positions ``keep`` go through what follows the last mixer."""
        x, of_first = projected
        first, *above = self._layers()
        kept = ALL if above else keep
        x = first.add(x[:, kept], first.mixer.mix(of_first, kept))
        for layer in above:
            x = layer.forward_at(x, keep) if layer is above[-1] else layer(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The mixers' states, one per layer."""
        like = self.norm.weight  # a mixer without parameters does not know the stack's device
        device, dtype = device or like.device, dtype or like.dtype
        return tuple(layer.mixer.initial_state(batch, device, dtype) for layer in self._layers())

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """One token through the mixers' own steps.

        A mixer's window holds outputs of the layer below, which depend on earlier tokens. So the memory of a stack of
        windows is longer than one window.
        """
        after = []
        for layer, before in zip(self._layers(), state, strict=True):
            y_t, changed = layer.mixer.step(layer.norm1(x_t), before)
            x_t = layer.add(x_t, y_t)
            after.append(changed)
        return self.norm(x_t), tuple(after)

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Several tokens through the mixers' own `extend`. The last layer computes the positions ``keep`` only."""
        after, layers = [], self._layers()
        for layer, before in zip(layers, state, strict=True):
            kept = keep if layer is layers[-1] else ALL
            y, changed = layer.mixer.extend(layer.norm1(x), before, kept)
            x = layer.add(x[:, kept], y)
            after.append(changed)
        return self.norm(x), tuple(after)

    def reset(self, state: State, done: Tensor) -> State:
        return tuple(layer.mixer.reset(part, done) for layer, part in zip(self._layers(), state, strict=True))

    def flops(self, length: int) -> float | None:
        """The FLOPs of mixers and feed-forward networks; None if those of a mixer are unknown."""
        total = 0.0
        for layer in self._layers():
            if (of_mixer := layer.mixer.flops(length)) is None:
                return None
            total += of_mixer + (0 if layer.ffn is None else flops.least(layer.ffn))
        return total

    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]
