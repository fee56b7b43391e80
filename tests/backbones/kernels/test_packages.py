"""Adapters to CUDA packages, tested on the CPU with stand-ins that have the same signatures and layouts.

The stand-ins compute in the package's layout and refuse what the package refuses. All sizes differ, so a wrong
transposition fails.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from kernel_inputs import assert_equal, scan_inputs, values_and_gradients
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones import UserError
from backbench.backbones.kernels import OPERATIONS, ScanInputs, attention, dispatch, selective_scan
from backbench.backbones.kernels.attention import naive as naive_attention
from backbench.backbones.kernels.conv import naive as naive_conv
from backbench.backbones.kernels.scan import naive as naive_scan


def plant(patch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Put a module, and its parents, where an import finds it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        module.__spec__ = ModuleSpec(module.__name__, None, origin="stand-in", is_package=True)
        patch.setitem(sys.modules, module.__name__, module)
    vars(module).update(contents)


def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
    delta_bias: Tensor | None = None, delta_softplus: bool = False, return_last_state: bool = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """As in mamba-ssm 2.3: u, delta (batch, dim, length), A (dim, state), B, C (batch, state, length), D (dim,)."""
    assert not any((delta_bias, return_last_state, cu_seqlens))
    batch, dim, length = u.shape
    assert delta.shape == u.shape
    assert z is None or z.shape == u.shape
    delta = F.softplus(delta) if delta_softplus else delta
    assert A.shape[0] == dim
    assert B.shape == C.shape == (batch, A.shape[1], length)
    state, outputs = u.new_zeros(batch, *A.shape), []
    for t in range(length):
        moved = torch.einsum("bd,bn,bd->bdn", delta[:, :, t], B[:, :, t], u[:, :, t])
        state = torch.exp(torch.einsum("bd,dn->bdn", delta[:, :, t], A)) * state + moved
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, t]))
    y = torch.stack(outputs, dim=2)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


def test_mamba_ssm_adapter_equals_the_reference_and_refuses_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "mamba_ssm.ops.selective_scan_interface", selective_scan_fn=selective_scan_fn)
    inputs = scan_inputs(2, 7, 5, 3, torch.float32)
    mamba_ssm = OPERATIONS["selective_scan"].table["mamba_ssm"].function
    actual = values_and_gradients(lambda *a: mamba_ssm(ScanInputs(*a)), inputs)
    assert_equal(actual, values_and_gradients(lambda *a: naive_scan.selective_scan(ScanInputs(*a)), inputs), 1e-5)
    gate = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def expected(*a: Tensor) -> Tensor:
        return naive_scan.selective_scan(ScanInputs(a[0], F.softplus(a[1]), *a[2:6])) * F.silu(a[6])

    fused = values_and_gradients(lambda *a: mamba_ssm(ScanInputs(*a[:6], None, a[6], True)), [*inputs, gate])
    assert_equal(fused, values_and_gradients(expected, [*inputs, gate]), 1e-5)
    with pytest.raises(UserError, match="mamba_ssm has no window") as refused:
        mamba_ssm(ScanInputs(*inputs, window=3))
    assert "\n" not in str(refused.value)


def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None, return_final_states: bool = False,
    final_states_out: Tensor | None = None, activation: str | None = None,
) -> Tensor:  # fmt: skip
    """As in causal-conv1d: x (batch, dim, length), weight (dim, width), bias (dim,); channels innermost in eights."""
    assert not any((seq_idx, initial_states, return_final_states, final_states_out))
    assert activation in (None, "silu")
    dim, width = weight.shape
    assert x.shape[1] == dim
    assert 2 <= width <= 4
    assert 1 in (x.stride(1), x.stride(2))
    if x.stride(1) == 1 and x.stride(2) > 1:
        assert dim % 8 == x.stride(0) % 8 == x.stride(2) % 8 == 0
    y = F.conv1d(x, weight.unsqueeze(1), bias, padding=width - 1, groups=dim)[..., : x.shape[-1]]
    return F.silu(y) if activation else y


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("length", [1, 7])
def test_causal_conv1d_adapter_equals_the_reference_and_refuses_five_taps(
    monkeypatch: pytest.MonkeyPatch, channels: int, length: int
) -> None:
    plant(monkeypatch, "causal_conv1d", causal_conv1d_fn=causal_conv1d_fn)
    package = OPERATIONS["causal_conv1d"].table["causal_conv1d"].function
    g = torch.Generator().manual_seed(0)
    shapes = ((2, length, 2 * channels), (channels, 4), (channels,))
    inputs = [torch.randn(shape, generator=g).requires_grad_() for shape in shapes]
    for part in (slice(0, channels), slice(3, channels + 3)):  # views of a wider tensor, as the mixer has them

        def run(function: Any, part: slice = part) -> list[Tensor]:
            return values_and_gradients(lambda x, *rest: function(x[..., part], *rest), inputs)

        assert_equal(run(package), run(naive_conv.causal_conv1d), 1e-5)
        activated = run(lambda *a: package(*a, silu=True))
        assert_equal(activated, run(lambda *a: F.silu(naive_conv.causal_conv1d(*a))), 1e-5)
    with pytest.raises(UserError, match="2 to 4 taps, not 5"):
        package(torch.zeros(1, 2, 3), torch.zeros(3, 5), torch.zeros(3))


class LowerTriangularMask:
    """As in xformers.ops: token i sees the tokens up to i."""


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None,
    causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: Tensor | None = None, deterministic: bool = False, return_attn_probs: bool = False,
) -> Tensor:  # fmt: skip
    """As in flash-attn 2.8: q, k, v (batch, length, heads, d)."""
    assert causal
    assert deterministic
    assert not return_attn_probs
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return naive_attention.attention(q, k, v, dropout_p).transpose(1, 2)


def memory_efficient_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_bias: Any = None, p: float = 0.0, scale: float | None = None,
    *, op: Any = None, output_dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """As in xformers 0.0.35: query, key, value (batch, length, heads, d)."""
    assert isinstance(attn_bias, LowerTriangularMask)
    return flash_attn_func(query, key, value, p, causal=True, deterministic=True)


@pytest.mark.parametrize("name", ["flash_attn", "xformers"])
def test_attention_adapters_equal_the_reference(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plant(monkeypatch, "flash_attn", flash_attn_func=flash_attn_func)
    contents = {"memory_efficient_attention": memory_efficient_attention, "LowerTriangularMask": LowerTriangularMask}
    plant(monkeypatch, "xformers.ops", **contents)
    g = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 7, 4, generator=g).requires_grad_() for _ in range(3)]
    function = OPERATIONS["attention"].table[name].function
    actual = values_and_gradients(function, inputs)
    assert_equal(actual, values_and_gradients(naive_attention.attention, inputs), 1e-5)
    torch.manual_seed(1)
    dropped = function(*inputs, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropped, naive_attention.attention(*inputs, 0.5))


REMEDIES = [
    ("selective_scan", "mamba_ssm", "pip install causal-conv1d mamba-ssm --no-build-isolation"),
    ("selective_scan", "triton", "pip install triton"),
    ("causal_conv1d", "causal_conv1d", "pip install causal-conv1d --no-build-isolation"),
    ("causal_conv1d", "triton", "pip install triton"),
    ("attention", "flash_attn", "pip install flash-attn --no-build-isolation"),
    ("attention", "xformers", "pip install xformers"),
]


@pytest.mark.parametrize(("operation", "name", "remedy"), REMEDIES)
def test_what_is_missing_has_a_remedy(monkeypatch: pytest.MonkeyPatch, operation: str, name: str, remedy: str) -> None:
    """First the package, then the device. An empty folder that a package left does not count as installed."""
    entry = OPERATIONS[operation].table[name]
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(dispatch, "find_spec", lambda _: None)
    assert entry.missing() == f"{name} is not installed; {remedy}"
    monkeypatch.setattr(dispatch, "find_spec", lambda name: ModuleSpec(name, None, is_package=True))
    assert entry.missing() == f"{name} is not installed; {remedy}"
    monkeypatch.setattr(dispatch, "find_spec", lambda name: ModuleSpec(name, None, origin="a stand-in"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in (entry.missing() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CC", "cc")
    assert entry.missing() is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert ("C compiler" in (entry.missing() or "")) == (name == "triton")


def test_auto_never_chooses_a_cuda_package_on_the_cpu() -> None:
    for operation in OPERATIONS.values():
        for name in {name for _, name, _ in REMEDIES} & set(operation.table):
            assert operation.table[name].devices == ("cuda",)
            assert operation.chosen().name != name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_naming_a_cuda_implementation_without_a_gpu_is_one_line_with_the_remedy() -> None:
    inputs = scan_inputs(1, 2, 1, 1, torch.float32)
    with pytest.raises(UserError, match="'mamba_ssm' cannot run here: mamba_ssm is not installed; pip install"):
        selective_scan(*inputs, implementation="mamba_ssm")
    with pytest.raises(UserError, match="'triton' cannot run here"):
        selective_scan(*inputs, implementation="triton")
    with pytest.raises(UserError, match="'flash_attn' cannot run here"):
        attention(*(torch.zeros(1, 1, 1, 1) for _ in range(3)), implementation="flash_attn")
