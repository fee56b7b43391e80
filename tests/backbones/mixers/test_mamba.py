"""Mamba with negative eigenvalues: the decay is 2 exp(dt A) - 1, in every implementation, forward and step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, scan_inputs, values_and_gradients
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones import UserError, make_options
from backbench.backbones.contract import Spec
from backbench.backbones.kernels import selective_scan
from backbench.backbones.kernels.scan.selective_scan import NEGATIVE, SELECTIVE_SCAN
from backbench.backbones.mixers.mamba import Mamba, MambaOptions

D = 16


def loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor) -> Tensor:
    """The recurrence, channel by state."""
    h, columns = x.new_zeros(len(x), *A.shape), []
    for t in range(x.shape[1]):
        decay = 2 * torch.exp(dt[:, t, :, None] * A) - 1
        h = decay * h + (dt[:, t] * x[:, t])[:, :, None] * B[:, t, None, :]
        columns.append((h * C[:, t, None, :]).sum(-1) + skip * x[:, t])
    return torch.stack(columns, 1)


@pytest.mark.parametrize("length", [1, 33, 130])
@pytest.mark.parametrize("name", sorted(set(NEGATIVE) & set(SELECTIVE_SCAN.here())))
def test_every_implementation_equals_a_loop(name: str, length: int) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        if not SELECTIVE_SCAN.table[name].takes("cpu", dtype):
            continue
        inputs = scan_inputs(3, length, 9, 5, dtype)
        actual = values_and_gradients(lambda *a: selective_scan(*a, negative=True, implementation=name), inputs)
        doubled = [tensor.detach().double().requires_grad_() for tensor in inputs]
        assert_equal(actual, values_and_gradients(loop, doubled), tolerance)


def test_softplus_and_gate_stay_in_the_same_pass() -> None:
    inputs = scan_inputs(2, 40, 9, 5, torch.float32)
    raw, gate = torch.randn(2, 40, 9), torch.randn(2, 40, 9)
    x, _, *rest = (tensor.detach() for tensor in inputs)
    y = selective_scan(x, raw, *rest, gate=gate, softplus=True, negative=True)
    expected = loop(*(part.double() for part in (x, F.softplus(raw), *rest))) * F.silu(gate.double())
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steps_and_pieces_equal_forward(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    mixer = Mamba(MambaOptions(eigenvalues="negative", d_state=5), Spec(D, n_layers=1)).to(dtype)
    with torch.no_grad():
        mixer.block.dt_proj.bias.add_(3)  # so that decays are negative
        x = torch.randn(2, 40, D, dtype=dtype)
        state, rows = mixer.initial_state(2), []
        for t in range(20):
            y, state = mixer.step(x[:, t], state)
            rows.append(y)
        rest, _ = mixer.extend(x[:, 20:], state)
        got, expected = torch.cat((torch.stack(rows, 1), rest), 1), mixer(x)
        other = Mamba(MambaOptions(d_state=5), Spec(D, n_layers=1)).to(dtype)
        other.load_state_dict(mixer.state_dict())
        assert float((other(x) - expected).abs().max()) > 1e-3  # the option matters
    assert float((got - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"eigenvalues": "negativ"}, "mamba: unknown eigenvalues 'negativ'; did you mean 'negative'"),
        ({"eigenvalues": "negative", "kernels": "triton"}, "mamba: kernels=triton has no negative eigenvalues;"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make_options(Mamba, options)


def test_the_scan_refuses_a_window_and_implementations_without_negative_decays() -> None:
    inputs: Any = scan_inputs(1, 4, 2, 2, torch.float32)
    with pytest.raises(UserError, match=r"negative decays have no window \(window=2\)"):
        selective_scan(*inputs, window=2, negative=True)
    with pytest.raises(UserError, match="'mamba_ssm' has no negative eigenvalues; use reference, torch, cpp or auto"):
        selective_scan(*inputs, negative=True, implementation="mamba_ssm")
