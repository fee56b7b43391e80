"""The LRU equals the paper's equations, and starts on the ring."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients
from torch import Tensor

from backbench.backbones import UserError, make_options
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.lru import LRU

D = 32


def made(d: int = D, **options: Any) -> LRU:
    torch.manual_seed(0)
    return LRU(make_options(LRU, options), Spec(d_model=d))


def by_the_paper(mixer: LRU, x: Tensor) -> Tensor:
    """The equations of section 3 with complex matrices, token by token."""
    a = torch.exp(torch.complex(-mixer.nu_log.exp(), mixer.theta_log.exp()))
    B, C = torch.complex(mixer.B[:, 0], mixer.B[:, 1]), torch.complex(mixer.C[..., 0], mixer.C[..., 1])
    h, columns = torch.zeros(len(x), len(a), dtype=a.dtype), []
    for t in range(x.shape[1]):
        h = a * h + mixer.gamma_log.exp() * (x[:, t].to(a.dtype) @ B.T)
        columns.append((h @ C.T).real + mixer.D * x[:, t])
    y = torch.nn.functional.gelu(torch.stack(columns, 1))
    left, right = (y @ layer.weight.T + layer.bias for layer in (mixer.out_proj, mixer.gate_proj))
    return left * right.sigmoid()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"d_state": 7, "r_min": 0.9, "r_max": 0.999, "max_phase": 0.3}], ids=str)
def test_lru_equals_the_equations(options: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    mixer = made(**options).to(dtype)
    x = torch.randn(3, 17, D, dtype=dtype, requires_grad=True)
    inputs = [x, *mixer.parameters()]
    got = values_and_gradients(lambda x, *_: mixer(x), inputs)
    assert_equal(got, values_and_gradients(lambda x, *_: by_the_paper(mixer, x), inputs), tolerance)


def test_it_starts_on_the_ring() -> None:
    """Uniform in area; gamma makes the states of white noise have one size. Parameters are counted by hand."""
    mixer = made(d_state=4000, r_min=0.6, r_max=0.9, max_phase=1.0)
    a = mixer.decays().detach()
    assert 0.6 <= float(a.abs().min()) < 0.61
    assert 0.89 < float(a.abs().max()) <= 0.9
    assert float(a.abs().square().mean()) == pytest.approx((0.6**2 + 0.9**2) / 2, rel=0.01)
    assert 0 < float(a.angle().min()) < float(a.angle().max()) <= 1
    torch.testing.assert_close(mixer.gamma_log.exp().square() + a.abs().square(), torch.ones(4000))
    assert sum(p.numel() for p in made().parameters()) == 4 * D * D + 4 * D + 2 * (D * D + D) == 6336


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"d_state": -1}, "lru: d_state=-1; give at least 0"),
        ({"r_min": 0.9, "r_max": 0.5}, "lru: r_min=0.9, r_max=0.5; give 0 <= r_min < r_max <= 1"),
        ({"r_max": float("nan")}, "give 0 <= r_min < r_max <= 1"),
        ({"max_phase": 0.0}, "lru: max_phase=0.0; give a number above 0"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        made(**options)
