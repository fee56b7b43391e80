"""Implementations for CUDA that need packages of their own: Triton's kernels, mamba-ssm, causal-conv1d, and so on.

Each one is imported when it is first used, and not before: some of these packages take seconds, and cannot be imported
on a machine without a GPU. Their layouts differ from ours; what is here changes the layout and nothing else.
docs/how-to/accelerators.md says what each brings, and gives the commands that install it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from backbench.errors import UserError


def without(module: str, command: str) -> Callable[[], str | None]:
    """What is missing for a package of CUDA kernels, and the remedy, one line; None if it can run."""

    def missing() -> str | None:
        spec = find_spec(module)
        # A folder that another package left (flash-attn 4 makes one named flash_attn) has no origin.
        if spec is None or spec.origin is None:
            return f"{module} is not installed; {command}"
        return None if torch.cuda.is_available() else "torch sees no CUDA device (GPU, driver, CUDA build of torch)"

    return missing


_triton_missing = without("triton", "pip install triton")


def triton_missing() -> str | None:
    """The same for Triton, which compiles a small C program of its own before it can start a kernel."""
    missing = _triton_missing()
    if missing is None and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler to start its kernels; install gcc, or set CC"
    return missing


mamba_ssm_missing = without("mamba_ssm", "pip install causal-conv1d mamba-ssm --no-build-isolation")
causal_conv1d_missing = without("causal_conv1d", "pip install causal-conv1d --no-build-isolation")
flash_attn_missing = without("flash_attn", "pip install flash-attn --no-build-isolation")
xformers_missing = without("xformers", "pip install xformers")


def triton_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, window: int | None = None) -> Tensor:
    """Triton kernels: sequential in time, parallel over batch and channels; deterministic."""
    from backbench.backbones.kernels.scan.triton_scan import selective_scan

    return selective_scan(x, dt, A, B, C, D, window)


def mamba_ssm_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    window: int | None = None,
    gate: Tensor | None = None,
    softplus: bool = False,
) -> Tensor:
    """The CUDA kernels of Mamba's authors; without a window, and not deterministic backward."""
    if window is not None:
        raise UserError(f"selective_scan: mamba_ssm has no window (window={window}); use triton, torch or auto")
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, dt, B, C = (tensor.transpose(1, 2) for tensor in (x, dt, B, C))
    z = None if gate is None else gate.transpose(1, 2)
    y: Tensor = selective_scan_fn(x, dt, A.contiguous(), B, C, D, z=z, delta_softplus=softplus)
    return y.transpose(1, 2)


def triton_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Triton kernels; deterministic."""
    from backbench.backbones.kernels.conv.triton_conv import causal_conv1d

    return causal_conv1d(x, weight, bias)


def causal_conv1d_package(x: Tensor, weight: Tensor, bias: Tensor, silu: bool = False) -> Tensor:
    """The CUDA kernels of Mamba's authors, for 2 to 4 taps; not deterministic backward unless asked to be."""
    from causal_conv1d import causal_conv1d_fn

    if not 2 <= weight.shape[1] <= 4:
        raise UserError(f"causal_conv1d: the package takes 2 to 4 taps, not {weight.shape[1]}; use triton or auto")
    # Its kernel for channels that lie innermost, as ours do, wants multiples of 8; the other one takes any.
    x = x.transpose(1, 2)
    if x.shape[1] % 8 or any(stride % 8 for stride in (x.stride(0), x.stride(2))):
        x = x.clone(memory_format=torch.contiguous_format)
    y: Tensor = causal_conv1d_fn(x, weight.contiguous(), bias, activation="silu" if silu else None)
    return y.transpose(1, 2)


def flash_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """FlashAttention 2 from its own package, in its deterministic mode; half precision only."""
    from flash_attn import flash_attn_func

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    y: Tensor = flash_attn_func(q, k, v, dropout_p=dropout, causal=True, deterministic=True)
    return y.transpose(1, 2)


def xformers_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The memory-efficient attention of xformers; it promises no determinism."""
    from xformers.ops import LowerTriangularMask, memory_efficient_attention

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    y: Tensor = memory_efficient_attention(q, k, v, attn_bias=LowerTriangularMask(), p=dropout)
    return y.transpose(1, 2)
