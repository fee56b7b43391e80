"""S5 equals the paper's equations, and at its start the dense real state space of HiPPO's normal matrix."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, values_and_gradients
from torch import Tensor

from backbench.backbones import UserError, make_options
from backbench.backbones.contract import Spec
from backbench.backbones.kernels import diagonal_recurrence
from backbench.backbones.mixers.s5 import S5, hippo

D = 32


def made(d: int = D, **options: Any) -> S5:
    torch.manual_seed(0)
    return S5(make_options(S5, options), Spec(d_model=d))


def by_the_paper(mixer: S5, x: Tensor) -> Tensor:
    """The equations of section 3 with complex matrices, token by token, then the gated activation."""
    L = torch.complex(mixer.L[:, 0], mixer.L[:, 1])
    dt = mixer.log_dt.exp()
    B, C = torch.complex(mixer.B[:, 0], mixer.B[:, 1]), torch.complex(mixer.C[..., 0], mixer.C[..., 1])
    a = torch.exp(L * dt)
    scaled = ((a - 1) / L).unsqueeze(1) * B
    h, columns = torch.zeros(len(x), len(a), dtype=a.dtype), []
    for t in range(x.shape[1]):
        h = a * h + x[:, t].to(a.dtype) @ scaled.T
        columns.append(2 * (h @ C.T).real + mixer.D * x[:, t])
    v = torch.nn.functional.gelu(torch.stack(columns, 1))
    return v * (v @ mixer.gate_proj.weight.T + mixer.gate_proj.bias).sigmoid()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("options", [{}, {"d_state": 12, "n_blocks": 3}], ids=str)
def test_s5_equals_the_equations(options: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    mixer = made(**options).to(dtype)
    x = torch.randn(3, 17, D, dtype=dtype, requires_grad=True)
    got = values_and_gradients(lambda x, *_: mixer(x), [x, *mixer.parameters()])
    exact, x = copy.deepcopy(mixer).double(), x.detach().double().requires_grad_()
    want = values_and_gradients(lambda x, *_: by_the_paper(exact, x), [x, *exact.parameters()])
    assert_equal(got, want, tolerance)


@torch.no_grad()
def test_it_starts_as_the_real_state_space_of_hippos_normal_matrix() -> None:
    """The exact solution with dense real matrices: matrix exponentials, no eigenvectors and no complex numbers."""
    size, steps, dt = 8, 30, 0.05
    mixer = made(4, d_state=size, dt_min=dt, dt_max=dt).double()
    n = torch.arange(size, dtype=torch.float64)
    scale = torch.sqrt(2 * n + 1)
    legs = -torch.tril(scale[:, None] * scale, -1) - torch.diag(n + 1)
    low_rank = torch.sqrt(n + 0.5)
    A = legs + low_rank[:, None] * low_rank
    _, V = hippo(size)
    B = 2 * (V @ torch.complex(mixer.B[:, 0], mixer.B[:, 1])).real
    C = 2 * (torch.complex(mixer.C[..., 0], mixer.C[..., 1]) @ V.mH).real
    step = torch.linalg.matrix_exp(dt * A)
    enters = torch.linalg.solve(A, (step - torch.eye(size, dtype=torch.float64)) @ B)
    x = torch.randn(1, steps, 4, dtype=torch.float64)
    h, columns = torch.zeros(size, dtype=torch.float64), []
    for x_t in x[0]:
        h = step @ h + enters @ x_t
        columns.append(C @ h + mixer.D * x_t)
    read = mixer.read(2 * diagonal_recurrence(*mixer.enter(x)), x)[0]
    torch.testing.assert_close(read, torch.stack(columns), rtol=1e-6, atol=1e-6)  # log_dt is single precision
    assert sum(p.numel() for p in made().parameters()) == 2 * D * D + D + 3 * D // 2 + D * D + D == 3184


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"d_state": 7}, "s5: d_state=7; give 0 or a multiple of 2, twice n_blocks"),
        ({"n_blocks": 0}, "s5: n_blocks=0; give at least 1"),
        ({"dt_min": 0.2}, "s5: dt_min=0.2, dt_max=0.1; give 0 < dt_min <= dt_max"),
        ({"dt_max": float("inf")}, "give 0 < dt_min <= dt_max"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        made(**options)
