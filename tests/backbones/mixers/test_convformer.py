"""Decision ConvFormer's mixer equals its definition, a loop over tokens and taps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbench.backbones import UserError
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.convformer import Convformer, ConvformerOptions

KINDS = ("return", "state", "action")


def mixer(window: int = 2, tokens: tuple[str, ...] = KINDS) -> Convformer:
    torch.manual_seed(0)
    return Convformer(ConvformerOptions(window=window), Spec(d_model=4, tokens=tokens, max_length=12)).double()


def by_definition(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(length, d), (kinds, taps, d), (kinds, d): one token, one tap, one channel at a time."""
    y = np.zeros_like(x)
    for t in range(len(x)):
        kind = t % len(weight)
        for c in range(x.shape[1]):
            y[t, c] = bias[kind, c]
            for tap in range(weight.shape[1]):
                before = t - (weight.shape[1] - 1 - tap)
                if before >= 0:
                    y[t, c] += weight[kind, tap, c] * x[before, c]
    return y


@pytest.mark.parametrize(("window", "tokens"), [(1, KINDS), (2, KINDS), (3, ("state", "action")), (2, ("state",))])
@pytest.mark.parametrize("length", [1, 2, 7, 24])
def test_it_equals_its_definition(window: int, tokens: tuple[str, ...], length: int) -> None:
    ours = mixer(window, tokens)
    x = torch.randn(2, length, 4, dtype=torch.float64, requires_grad=True)
    y = ours(x)
    weight, bias = (one.detach().numpy() for one in (ours.weight, ours.bias))
    for row in range(2):
        expected = by_definition(x[row].detach().numpy(), weight, bias)
        assert np.allclose(y[row].detach().numpy(), expected, atol=1e-12, rtol=0)
    # A linear map's gradient is the map itself: the sum of y is linear in x and in the weights.
    direction, nudge = torch.randn_like(x), torch.randn_like(ours.weight)
    loss = (y * y.detach().cos()).sum()
    loss.backward()
    assert x.grad is not None
    assert ours.weight.grad is not None
    factor = y.detach().cos()
    with torch.no_grad():
        moved = ((ours(x + 1e-6 * direction) - ours(x)) * factor).sum() / 1e-6
        assert float((x.grad * direction).sum()) == pytest.approx(float(moved), rel=1e-6)
        before = (ours(x) * factor).sum()
        ours.weight.add_(1e-6 * nudge)
        after = (ours(x) * factor).sum()
    assert float((ours.weight.grad * nudge).sum()) == pytest.approx(float((after - before) / 1e-6), rel=1e-6)


def test_a_token_kind_has_a_filter_of_its_own() -> None:
    ours = mixer()
    with torch.no_grad():
        ours.weight[1] = 0
        ours.bias[1] = 7
    y = ours(torch.randn(1, 9, 4, dtype=torch.float64))
    assert bool((y[0, 1::3] == 7).all())
    assert not bool((y[0, 0::3] == 7).any())


def test_it_sees_its_window_and_nothing_before() -> None:
    ours, x = mixer(), torch.randn(1, 10, 4, dtype=torch.float64)
    other = x.clone()
    other[0, 3] += 1
    changed = (ours(x) != ours(other)).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8]


def test_a_window_without_steps_is_refused() -> None:
    with pytest.raises(UserError, match="convformer: window=0; give at least 1"):
        ConvformerOptions(window=0)
