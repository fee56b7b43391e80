"""Other processors, emulated on this one by variables that libraries read at their start.

``python emulated_processors.py exact|float32 NAME…`` makes the data sets in a new store and prints their hashes.
``float32`` is the negative control: policies as they were before their arithmetic was made exact.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data import store
from backbench.benchmarks.data.policies import gaussian, ram
from backbench.benchmarks.data.sources import embedded, embedded_memory
from backbench.benchmarks.run import machine

# Kernels of OpenBLAS, instruction sets of NumPy, and variants of the C library's functions.
PROCESSORS: dict[str, dict[str, str]] = {
    "this one": {},
    "Haswell's kernels": {"OPENBLAS_CORETYPE": "Haswell"},
    "Sandy Bridge's kernels": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "Nehalem's kernels": {"OPENBLAS_CORETYPE": "Nehalem"},
    "NumPy without AVX2 and AVX-512": {"NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR"},
    "NumPy and kernels without AVX2": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR", "OPENBLAS_CORETYPE": "Sandybridge",
    },
    "C library without AVX-512": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL"},
}  # fmt: skip
if "avx512f" in machine.processor()["instructions"]:
    PROCESSORS["Skylake's kernels"] = {"OPENBLAS_CORETYPE": "SkylakeX"}


def start(processor: str, arithmetic: str, names: list[str], folder: Path) -> subprocess.Popen[str]:
    """Make data sets in a process of their own, into a store in ``folder``."""
    environment = {**os.environ, **PROCESSORS[processor], "MINARI_DATASETS_PATH": str(folder)}
    environment["PYTHONWARNINGS"] = "ignore"  # NumPy warns of a feature that this machine does not have
    words = [sys.executable, __file__, arithmetic, *names]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def _gaussian_act(self: Any, observations: Any, rng: Any = None, noise: float = 1.0) -> Any:
    p = {name: array.astype(np.float32) for name, array in self.arrays.items()}
    h = np.clip((observations.astype(np.float32) - p["obs_mean"]) * p["obs_scale"], -10.0, 10.0)
    for layer in range(sum(name[0] == "w" for name in p)):
        h = h @ p[f"w{layer}"] + p[f"b{layer}"]
        h = np.maximum(h, 0.0) if self.squash else np.tanh(h)
    action = h @ p["mean_w"] + p["mean_b"]
    log_std = np.clip(h @ p["std_w"] + p["std_b"], -20.0, 2.0) if self.squash else p["log_std"]
    action = action + noise * np.exp(log_std) * rng.standard_normal(action.shape, dtype=np.float32)
    return np.tanh(action) if self.squash else np.clip(action, -1.0, 1.0)


def _ram_act(self: Any, memory: Any, rng: Any, temperature: float = 1.0, epsilon: float = 0.0) -> Any:
    p = {name: array.astype(np.float32) for name, array in self.arrays.items()}
    draws = np.array([generator.random(3) for generator in rng])
    h = np.clip((memory.astype(np.float32) - p["obs_mean"]) * p["obs_scale"], -10.0, 10.0)
    for layer in range(3):
        h = h @ p[f"w{layer}"] + p[f"b{layer}"]
        h = np.tanh(h) if layer < 2 else h
    scaled = h.astype(np.float64) / temperature
    shares = np.cumsum(np.exp(scaled - scaled.max(axis=1, keepdims=True)), axis=1)
    sampled = (draws[:, 2:] * shares[:, -1:] >= shares).sum(axis=1)
    return np.where(draws[:, 0] < epsilon, (draws[:, 1] * len(p["b2"])).astype(np.int64), sampled)


if __name__ == "__main__":
    if sys.argv[1] == "float32":
        gaussian.GaussianPolicy.act = _gaussian_act  # type: ignore[method-assign]
        ram.RamPolicy.act = _ram_act  # type: ignore[method-assign]
    embedded_memory.EPISODES = 30  # of its sets, which have one size
    for name in sys.argv[2:]:
        (embedded_memory if embedded_memory.is_one(name) else embedded).make(name)
        print(name, store.digest(name))
