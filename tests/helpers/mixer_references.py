"""Published recurrences as loops over tokens, with the weights of our mixers: to compare values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones.contract import Spec

D = 16


def perturbed(cls: Any, layer: int = 0, **options: Any) -> Any:
    """A mixer of two layers in double precision, with weights away from their start."""
    torch.manual_seed(0)
    mixer = cls(cls.Options(**options), Spec(D, n_layers=2, max_length=30, layer=layer)).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


def assert_equals_loop(mixer: Any, loop: Callable[[Any, Tensor], Tensor], tolerance: float = 1e-10) -> None:
    """Outputs, and the gradients of the input and all weights, within ``tolerance`` of the largest entry."""
    x = torch.randn(2, 37, D, generator=torch.Generator().manual_seed(1), dtype=torch.double).requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    names, parameters = zip(*mixer.named_parameters(), strict=True)
    found = []
    for function in (mixer, lambda x: loop(mixer, x)):
        y = function(x)
        found.append([y, *torch.autograd.grad((y * weight).sum(), [x, *parameters])])
    for name, a, b in zip(("output", "input", *names), *found, strict=True):
        error = float((a - b).detach().abs().max() / b.detach().abs().max())
        assert error <= tolerance, f"{name}: relative error {error:.1e}"


def convolved(layer: Any, x: Tensor) -> Tensor:
    """silu of a causal depthwise convolution, (batch, length, channels)."""
    width = layer.conv.kernel_size[0]
    y = F.conv1d(F.pad(x.mT, (width - 1, 0)), layer.conv.weight, layer.conv.bias, groups=x.shape[-1])
    return F.silu(y).mT


def split(x: Tensor, heads: int, *widths: int) -> list[Tensor]:
    """Parts of the last dimension, each (batch, length, heads, width / heads)."""
    return [part.reshape(*x.shape[:2], heads, -1) for part in x.split(widths, -1)]


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def outer(k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhk,bhv->bhkv", k, v)


def read(state: Tensor, q: Tensor) -> Tensor:
    return torch.einsum("bhkv,bhk->bhv", state, q)
