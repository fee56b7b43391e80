"""Triton's kernels, without a GPU: equal to the reference in Triton's interpreter, and compiled for two GPUs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from paths import HELPERS

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed; pip install triton")

HERE = HELPERS
ATOMIC = re.compile(r"\b(atom|red)\.")


def test_triton_kernels_equal_the_reference_in_the_interpreter() -> None:
    """In a process of its own: Triton decides between interpreter and compiler when it is imported."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "interpreted_kernels.py"],
        capture_output=True,
        text=True,
        cwd=HERE,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        timeout=600,
    )
    if "only 0-dimensional arrays can be converted to Python scalars" in done.stdout:
        pytest.skip("the interpreter of this version of triton does not work with NumPy 2.4 or newer")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def compiled(kernel: Any, sizes: dict[str, str], constants: dict[str, Any], arch: int, warps: int = 1) -> Any:
    """The kernel built for a GPU of that architecture; arguments that are not named are pointers to float32."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: "constexpr" if name in constants else sizes.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


@pytest.fixture
def assembler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips without NVIDIA's assembler; Triton's wheels bring one. What is built is not kept."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    bundled = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not bundled.is_file() and not os.environ.get("TRITON_PTXAS_PATH") and shutil.which("ptxas") is None:
        pytest.skip("ptxas is missing: this build of triton cannot compile for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


SIZES = ("length", "channels", "state", "window", "chunk", "chunks", "blocks")


# Where a size is 1, Triton makes it a constant of the kernel.
@pytest.mark.parametrize("ones", [(), ("channels", "state", "blocks"), ("window", "chunk", "chunks")])
@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.usefixtures("assembler")
def test_scan_compiles_without_atomics(arch: int, windowed: bool, ones: tuple[str, ...]) -> None:
    from backbench.backbones.kernels.scan import triton_scan

    block_c, block_n, warps = triton_scan._blocks(1, 1) if "state" in ones else triton_scan._blocks(256, 16)
    sizes = dict.fromkeys(SIZES, "i32")
    for kernel in (triton_scan._forward, triton_scan._backward):
        constants: dict[str, Any] = {name: 1 for name in ones if name in kernel.arg_names}
        constants |= {"WINDOWED": windowed, "BLOCK_C": block_c, "BLOCK_N": block_n}
        if "SAVE" in kernel.arg_names:
            constants["SAVE"] = True
        built = compiled(kernel, sizes, constants, arch, warps)
        assert built.asm["cubin"]
        assert not ATOMIC.search(built.asm["ptx"])


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.usefixtures("assembler")
def test_the_other_kernels_compile_without_atomics(arch: int) -> None:
    from backbench.backbones.kernels.conv import triton_conv
    from backbench.backbones.kernels.scan import triton_scan

    sizes = dict.fromkeys(SIZES, "i32")
    blocks = {"BLOCK_T": 32, "BLOCK_C": 64}
    half = sizes | dict.fromkeys(("x", "weight", "bias", "y", "dy", "dx"), "*bf16")
    built = [compiled(triton_scan._windowed_sum, sizes, blocks, arch)]
    for kernel in (triton_conv._forward, triton_conv._backward):
        built += [compiled(kernel, types, blocks | {"WIDTH": 4}, arch, 4) for types in (sizes, half)]
    assert all(kernel.asm["cubin"] for kernel in built)
    assert not any(ATOMIC.search(kernel.asm["ptx"]) for kernel in built)
