"""minGRU equals the paper's equations, one token after the other, and remembers what its gate lets in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients
from torch import Tensor

from backbench.backbones import UserError, make_options
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.mingru import MinGRU

D = 32


def made(d: int = D, **options: Any) -> MinGRU:
    torch.manual_seed(0)
    return MinGRU(make_options(MinGRU, options), Spec(d_model=d))


def by_the_paper(mixer: MinGRU, x: Tensor) -> Tensor:
    """Section 3.1.3, with g of appendix B, token by token."""
    to_candidate, to_gate = mixer.in_proj.weight.chunk(2)
    candidate_bias, gate_bias = mixer.in_proj.bias.chunk(2)
    h, columns = torch.zeros(len(x), len(to_gate), dtype=x.dtype), []
    for t in range(x.shape[1]):
        z = 1 / (1 + torch.exp(-(x[:, t] @ to_gate.T + gate_bias)))
        c = x[:, t] @ to_candidate.T + candidate_bias
        if mixer.options.candidate == "positive":
            c = torch.where(c >= 0, c + 0.5, 1 / (1 + torch.exp(-c)))
        h = (1 - z) * h + z * c
        columns.append(h @ mixer.out_proj.weight.T + mixer.out_proj.bias)
    return torch.stack(columns, 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"expand": 2, "candidate": "linear"}], ids=str)
def test_mingru_equals_the_equations(options: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    mixer = made(**options).to(dtype)
    x = torch.randn(3, 17, D, dtype=dtype, requires_grad=True)
    inputs = [x, *mixer.parameters()]
    got = values_and_gradients(lambda x, *_: mixer(x), inputs)
    assert_equal(got, values_and_gradients(lambda x, *_: by_the_paper(mixer, x), inputs), tolerance)


def test_it_has_as_many_parameters_as_counted_by_hand() -> None:
    assert sum(p.numel() for p in made().parameters()) == 3 * D * D + 3 * D == 3168


@torch.no_grad()
def test_a_marked_value_is_there_after_ten_thousand_tokens() -> None:
    """Feature 1 marks the token whose feature 0 is kept: it opens the gate, and nothing else does."""
    mixer = made(2, candidate="linear")
    for parameter in mixer.parameters():
        parameter.zero_()
    mixer.in_proj.weight[0, 0] = 1
    mixer.in_proj.weight[2, 1] = 60
    mixer.in_proj.bias[2] = -30
    mixer.out_proj.weight[0, 0] = 1
    x = torch.randn(1, 10_001, 2, generator=torch.Generator().manual_seed(0))
    x[..., 1] = 0
    x[0, 0] = torch.tensor([0.7, 1.0])
    assert float(mixer(x)[0, -1, 0]) == pytest.approx(0.7, abs=1e-5)
    x[0, 5000, 1] = 1
    assert float(mixer(x)[0, -1, 0]) == pytest.approx(float(x[0, 5000, 0]), abs=1e-5)


def test_wrong_options_are_one_line() -> None:
    with pytest.raises(UserError, match="mingru: expand=0; give at least 1"):
        made(expand=0)
    with pytest.raises(UserError, match="mingru: unknown candidate 'linar'; did you mean 'linear'"):
        made(candidate="linar")
