"""Kernels one by one: forward and backward pass at a model's shape, and the scan over lengths."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.kernels import OPERATIONS, causal_conv1d, chosen, selective_scan
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.equality import (
    SHAPES,
    TOLERANCE,
    Examiner,
    Unequal,
    errors,
    operation_inputs,
    values_and_gradients,
    within,
)
from backbench.benchmarks.speed.report import KernelEntry
from backbench.benchmarks.speed.timing import LEAST, Sampler, interleave, once

STATE = 16
LENGTHS = (64, 256, 1024, 4096)
WINDOWS = (3, 6)
Function = Callable[..., Tensor]


def mambapy_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """mambapy's parallel scan, with the same work before and after it as its block does."""
    pscan: Function = importlib.import_module("mambapy.pscan").pscan
    decay = torch.exp(dt.unsqueeze(-1) * A)
    inflow = (dt * x).unsqueeze(-1) * B.unsqueeze(2)
    states = pscan(decay, inflow)
    return (states @ C.unsqueeze(-1)).squeeze(-1) + D * x


def indexing_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The algorithm of mamba-ssm's plain PyTorch fallback: everything spread out, then a loop that indexes time.

    Written anew, to time the algorithm where the package cannot be installed. Each index has a gradient as large as
    the whole sequence, which makes the backward pass quadratic in length.
    """
    decay = torch.einsum("bld,dn->bdln", dt, A).exp()
    inflow = torch.einsum("bld,bln,bld->bdln", dt, B, x)
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        state = decay[:, :, t] * state + inflow[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, t]))
    return torch.stack(outputs, dim=1) + D * x


@dataclass(frozen=True)
class Peer:
    """Another scan: how it is called, and the module that it needs."""

    function: Function
    module: str = ""


PEERS = {"mambapy": Peer(mambapy_scan, "mambapy"), "mamba-ssm's reference": Peer(indexing_scan)}


def _run(function: Function, inputs: list[Tensor], device: torch.device) -> Sampler:
    """Forward and backward pass, with a gradient that is there already."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    ones = torch.ones_like(leaves[0])

    def call() -> None:
        torch.autograd.grad(function(*leaves), leaves, ones)

    return once(call, device)


def _equal_to_ours(function: Function, device: torch.device) -> None:
    """Raise ``Unequal`` unless a peer's scan equals our reference."""
    for shape in SHAPES:
        inputs, names = operation_inputs("selective_scan", shape, device)
        wanted = values_and_gradients(
            lambda *a: selective_scan(*a, implementation="reference"), [t.double() for t in inputs]
        )
        called = ("values", *(f"gradient of {name}" for name in names))
        within(errors(values_and_gradients(function, inputs), wanted, called), TOLERANCE[torch.float32])


def _usable(operation: str, device: torch.device) -> list[str]:
    """Implementations that are here and take float32 on this device, the fastest first."""
    table = OPERATIONS[operation].table
    here = [name for name in OPERATIONS[operation].here() if table[name].takes(device.type, torch.float32)]
    return here[::-1]


def shape_of(config: SpeedConfig) -> tuple[int, int, int, int]:
    """(batch, length, channels, state) of the scan in a Mamba of this width, with its default options."""
    return config.batch_size, TOKENS_PER_STEP * config.model.context, 2 * config.model.d_model, STATE


def time_kernels(examiner: Examiner, seconds: float) -> list[KernelEntry]:
    """Every implementation that is here, windowed as well, and the peers', in about ``seconds``."""
    device, config = examiner.device, examiner.config
    shape = shape_of(config)
    entries = []
    for operation, share in (("selective_scan", 0.7), ("causal_conv1d", 0.3)):
        calls: dict[tuple[str, int | None], Function] = {}
        refused: dict[str, str] = {}
        for name in _usable(operation, device):
            try:
                examiner.kernel(operation, name)
            except Unequal as error:
                refused[name] = str(error)
                continue
            if operation == "causal_conv1d":
                calls[name, None] = lambda *a, name=name: causal_conv1d(*a, implementation=name)
                continue
            for window in (None, *WINDOWS):
                if name == "reference" and window is not None:
                    continue  # the definition, written for reading: it scans every window from its start
                calls[name, window] = lambda *a, name=name, window=window: selective_scan(
                    *a, window=window, implementation=name
                )
        ours = {name for name, _ in calls} | set(refused)
        if operation == "selective_scan":
            for name, peer in PEERS.items():
                if peer.module and importlib.util.find_spec(peer.module) is None:
                    continue
                try:
                    _equal_to_ours(peer.function, device)
                except Unequal as error:
                    refused[name] = str(error)
                    continue
                calls[name, None] = peer.function
        inputs, _ = operation_inputs(operation, shape, device)
        size = shape if operation == "selective_scan" else shape[:3]
        keys = {f"{name}\n{window}": (name, window) for name, window in calls}
        samplers = {key: _run(calls[named], inputs, device) for key, named in keys.items()}
        taken = interleave(samplers, config.repeats, share * seconds)
        for key, (name, window) in keys.items():
            entries.append(
                KernelEntry(operation=operation, implementation=name, ours=name in ours, shape=size, window=window,
                            seconds=taken[key])
            )  # fmt: skip
        for name, reason in refused.items():
            entries.append(
                KernelEntry(operation=operation, implementation=name, ours=name in ours, shape=size, window=None,
                            seconds=(), refused=reason)
            )  # fmt: skip
    return entries


def free_memory(device: torch.device) -> float:
    """Free bytes of the device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def time_scan_lengths(examiner: Examiner, seconds: float) -> list[KernelEntry]:
    """The scan that ``auto`` takes, over lengths; a smaller batch where memory or time lacks."""
    device = examiner.device
    name = chosen("selective_scan", "auto", device.type, torch.float32)
    try:
        examiner.kernel("selective_scan", name)
    except Unequal:
        return []  # refused in the table of kernels
    batch, _, channels, state = shape_of(examiner.config)

    def sampler(rows: int, length: int) -> Sampler:
        inputs, _ = operation_inputs("selective_scan", (rows, length, channels, state), device)
        return _run(lambda *a: selective_scan(*a, implementation=name), inputs, device)

    # x, dt, y, their gradients, and what an implementation keeps: some ten tensors, in a quarter of what is free.
    room = free_memory(device) / 4 / (10 * 4 * max(LENGTHS) * channels)
    pilot = sampler(batch, min(LENGTHS))
    pilot()
    a_row = pilot()[0] / batch * sum(LENGTHS) / min(LENGTHS)
    rows = max(1, min(batch, int(room), int(seconds / a_row / (1 + LEAST))))
    entries = []
    for length in LENGTHS:
        taken = interleave({name: sampler(rows, length)}, examiner.config.repeats, seconds / len(LENGTHS))[name]
        entries.append(
            KernelEntry(operation="selective_scan", implementation=name, ours=True,
                        shape=(rows, length, channels, state), window=None, seconds=taken)
        )  # fmt: skip
    return entries
